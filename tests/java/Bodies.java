import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

/**
 * Sends bodies of two lengths, each with a Content-Length and in chunks, twice, and writes
 * each answer in a line. The client is java.net.http's as it comes: to an http:// address
 * it offers h2c with its first request, and again with each new connection.
 */
public class Bodies {
    public static void main(String[] arguments) throws Exception {
        URI uri = URI.create(arguments[0]);
        for (int size : new int[] {5, 200_000}) {
            byte[] body = "x".repeat(size).getBytes();
            BodyPublisher[] ways = {
                BodyPublishers.ofByteArray(body),
                BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)),
            };
            for (BodyPublisher way : ways) {
                HttpClient client = HttpClient.newHttpClient();
                for (int turn = 0; turn < 2; turn++) {
                    HttpRequest request =
                        HttpRequest.newBuilder(uri).header("x-session", "ann").POST(way).build();
                    var answer = client.send(request, BodyHandlers.ofString());
                    System.out.println(answer.statusCode() + " " + answer.body());
                }
            }
        }
    }
}

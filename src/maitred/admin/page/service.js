// Asks the admin process, and keeps what it said.
//
// Invariant: `samples` are in order of time and span no more than SPAN seconds.

export const SPAN = 15 * 60;
const TOKEN = "maitred-token";

export class Refused extends Error {}

// What is asked: a path and its parameters. Throws Refused where a token is needed.
export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  const token = sessionStorage.getItem(TOKEN);
  const answer = await fetch(`api/${path}${query && "?" + query}`, {
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    cache: "no-store",
    signal: AbortSignal.timeout(5000),
  });
  if (answer.status === 401) throw new Refused();
  if (!answer.ok) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
  return answer.json();
}

export const remember = (token) => sessionStorage.setItem(TOKEN, token);

// How much each count grew in a second, from one snapshot to the next.
export class Rates {
  #before = null;
  #now = null;

  take(snapshot) {
    if (this.#now && this.#now.pid !== snapshot.pid) this.#now = null;
    [this.#before, this.#now] = [this.#now, snapshot];
  }

  // `read` takes one number out of a snapshot; null where it is not known twice.
  of(read) {
    if (!this.#before) return null;
    const [before, now] = [read(this.#before), read(this.#now)];
    const seconds = this.#now.time - this.#before.time;
    return before == null || now == null || seconds <= 0 ? null : Math.max(0, now - before) / seconds;
  }
}

// The last 15 minutes: numbers by name, in all and by slot.
export class History {
  samples = [];

  take(said) {
    const named = (names, numbers) => Object.fromEntries(names.map((name, i) => [name, numbers[i]]));
    for (const sample of said.samples)
      this.samples.push({
        time: sample.time,
        totals: named(said.totals, sample.totals),
        slots: sample.slots.map((numbers) => named(said.worker, numbers)),
      });
    const oldest = (this.samples.at(-1)?.time ?? 0) - SPAN;
    while (this.samples.length && this.samples[0].time < oldest) this.samples.shift();
  }

  get last() {
    return this.samples.at(-1)?.time ?? 0;
  }

  // Points [time, number] of what `read` takes out of a sample; null leaves a gap.
  values(read) {
    return this.samples.map((sample) => [sample.time, read(sample) ?? null]);
  }

  // Points [time, growth in a second]; a count that fell began anew, and leaves a gap.
  rates(read, factor = 1) {
    return this.samples.slice(1).map((sample, i) => {
      const [before, now] = [read(this.samples[i]), read(sample)];
      const seconds = sample.time - this.samples[i].time;
      const known = before != null && now != null && now >= before && seconds > 0;
      return [sample.time, known ? (factor * (now - before)) / seconds : null];
    });
  }
}

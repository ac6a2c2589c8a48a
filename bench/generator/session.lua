-- Each request names a random one of the sessions given after "--". Random, not in turn:
-- a turn as long as the number of connections gives each connection always the same.
local requests = {}

function init(sessions)
  for i, session in ipairs(sessions) do
    wrk.headers["x-session"] = session
    requests[i] = wrk.format()
  end
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "errors": %d, "timeouts": %d, "p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status, errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end

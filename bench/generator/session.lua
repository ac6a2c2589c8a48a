-- Sessions for wrk: "wrk ... -- HOW SESSION ...".
--
-- random: each request is of a random session. Not in turn: a turn as long as the number
-- of connections gives each connection always the same.
-- own: each thread, which should have one connection, is of the next session.
local requests = {}
local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(arguments)
  local first, last = 2, #arguments
  if arguments[1] == "own" then
    first = 2 + (number - 1) % (#arguments - 1)
    last = first
  end
  for i = first, last do
    wrk.headers["x-session"] = arguments[i]
    table.insert(requests, wrk.format())
  end
  math.randomseed(number)
end

function request()
  return requests[math.random(#requests)]
end

function done(summary, latency)
  local errors = summary.errors
  local bad = errors.connect + errors.read + errors.write + errors.status
  io.write(string.format(
    'RESULT {"requests": %d, "seconds": %f, "errors": %d, "timeouts": %d, ' ..
    '"p50_ms": %f, "p99_ms": %f}\n',
    summary.requests, summary.duration / 1e6, bad, errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end

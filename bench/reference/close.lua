-- A new connection for each request, of SESSIONS in turn: "wrk ... -- SESSIONS [FIRST]".
local requests, turn = {}, 0

function init(arguments)
  local first = tonumber(arguments[2] or 0)
  for i = 1, tonumber(arguments[1]) do
    local headers = {["Host"] = "bench", ["X-Session"] = "s" .. first + i, ["Connection"] = "close"}
    requests[i] = wrk.format("GET", "/", headers)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

-- wrk: heartbeats, and one request in a hundred that is something else.

local directory = debug.getinfo(1, "S").source:match("@(.*/)") or ""
dofile(directory .. "heartbeats.lua")

local heartbeat = request
local count = 0

function request()
  count = count + 1
  if count % 200 == 100 then
    return wrk.format("GET", "/hmi/v1/readiness")
  elseif count % 200 == 0 then
    return wrk.format("POST", "/hmi/v1/hbstates", {},
      '{"XNames":["x1000c0s0b0n0","x1000c0s0b0n1"]}')
  end
  return heartbeat()
end

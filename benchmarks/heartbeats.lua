-- wrk: heartbeats of 10,000 nodes, in a fixed random order.

local requests = {}
local turn = 0

function init(args)
  math.randomseed(1)
  for i = 0, 9999 do
    local name = string.format("x%dc%ds%db%dn%d",
      1000 + math.floor(i / 512), math.floor(i / 64) % 8, math.floor(i / 8) % 8,
      math.floor(i / 4) % 2, i % 4)
    local body = string.format(
      '{"Component":"%s","Hostname":"nid%06d","NID":"%d","Status":"OK","Timestamp":"2026-11-23T00:00:00.000000+00:00"}',
      name, i, i)
    requests[i + 1] = wrk.format("POST", "/hmi/v1/heartbeat",
      { ["Content-Type"] = "application/json" }, body)
  end
  for i = #requests, 2, -1 do
    local j = math.random(i)
    requests[i], requests[j] = requests[j], requests[i]
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

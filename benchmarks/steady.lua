-- wrk: heartbeats with pauses in between, of so many milliseconds on average (the argument).

local directory = debug.getinfo(1, "S").source:match("@(.*/)") or ""
dofile(directory .. "heartbeats.lua")

local prepare = init
local pause = 0

function init(args)
  prepare(args)
  pause = tonumber(args[1])
  math.randomseed(2)
end

function delay()
  -- Spread out, or all connections would soon send in the same instants.
  -- wrk takes whole milliseconds; what is left of one counts as often as it is large.
  return math.floor(2 * pause * math.random() + math.random())
end

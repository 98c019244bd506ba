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
  local whole = math.floor(pause)
  if math.random() < pause - whole then
    whole = whole + 1
  end
  return whole
end

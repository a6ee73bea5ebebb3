-- For wrk: one request at moments of a Poisson process, whatever the server does; every answer is
-- checked, and what came of all of them is told in one line of JSON.
-- Arguments: file of the body, target model, requests a second, seconds before what is counted,
-- seconds that are counted, seed, the right number.

local ffi = require("ffi")
ffi.cdef([[
typedef struct { long seconds; long nanoseconds; } mme_moment;
int clock_gettime(int clock, mme_moment *moment);
]])
local CLOCK_MONOTONIC = 1
local TOLERANCE = 1e-6 -- as the other generator's

local moment = ffi.new("mme_moment")
local message, mean_ms, due_ms, since_ms, until_ms, expected

local function now_ms()
  ffi.C.clock_gettime(CLOCK_MONOTONIC, moment)
  return tonumber(moment.seconds) * 1e3 + tonumber(moment.nanoseconds) / 1e6
end

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local headers = {
    ["Content-Type"] = "text/csv",
    ["Accept"] = "text/csv",
    ["X-Amzn-SageMaker-Target-Model"] = arguments[2],
    ["Host"] = wrk.headers["Host"],
  }
  message = wrk.format("POST", nil, headers, file:read("*a"))
  file:close()
  mean_ms = 1e3 / tonumber(arguments[3])
  due_ms = now_ms()
  since_ms = due_ms + 1e3 * tonumber(arguments[4])
  until_ms = since_ms + 1e3 * tonumber(arguments[5])
  math.randomseed(tonumber(arguments[6]))
  expected = tonumber(arguments[7])
  counted, checked, wrong, refused, failed = 0, 0, 0, 0, 0 -- `done` asks for them by name
end

function request()
  return message
end

function delay() -- the connection that is free takes the next moment
  due_ms = due_ms - mean_ms * math.log(1 - math.random())
  return math.max(0, math.floor(due_ms - now_ms() + 0.5))
end

function response(status, _, body)
  local number = tonumber(body)
  if status == 429 or status == 503 then
    refused = refused + 1
  elseif status ~= 200 then
    failed = failed + 1
  elseif not number or math.abs(number - expected) > TOLERANCE * math.max(1, math.abs(expected)) then
    wrong = wrong + 1
  else
    checked = checked + 1
    local now = now_ms()
    if since_ms <= now and now < until_ms then
      counted = counted + 1
    end
  end
end

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function done(summary)
  local lost = summary.errors.connect + summary.errors.read + summary.errors.write
  local thread = threads[1]
  io.write(string.format(
    '\n{"counted": %d, "checked": %d, "wrong": %d, "refused": %d, "failed": %d, "lost": %d}\n',
    thread:get("counted"), thread:get("checked"), thread:get("wrong"), thread:get("refused"),
    thread:get("failed"), lost
  ))
end

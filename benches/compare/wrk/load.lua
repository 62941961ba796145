-- Load of one kind, told by the environment:
--   BENCH_REQUEST  a file with one whole request head without its last empty line; @TOKEN@ in it is replaced
--   BENCH_TOKENS   a file with one token a line: they are used in rotation
--   BENCH_STREAM   "1": the tokens are read as they are used, for files that do not fit into memory
--   BENCH_BODY     bytes of the body that each request carries
-- At the end one line that a program can read is printed; see `measure.py`.

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end

local head = read(os.getenv("BENCH_REQUEST"))
local body = string.rep("x", tonumber(os.getenv("BENCH_BODY") or "0"))
local tokens = os.getenv("BENCH_TOKENS")
local place = string.find(head, "@TOKEN@", 1, true)
local before = head
local after = ""
if place then
  before = string.sub(head, 1, place - 1)
  after = string.sub(head, place + 7)
end

local function whole(token)
  return before .. token .. after .. "\r\n" .. body
end

if not tokens then
  local fixed = whole("")
  request = function() return fixed end
elseif os.getenv("BENCH_STREAM") == "1" then
  local file = assert(io.open(tokens, "rb"))
  request = function()
    local token = file:read("*l")
    if not token then
      file:seek("set")
      token = file:read("*l")
    end
    return whole(token)
  end
else
  local all = {}
  for token in io.lines(tokens) do all[#all + 1] = whole(token) end
  if #all == 1 then
    local fixed = all[1]
    request = function() return fixed end
  else
    local next_one = 0
    request = function()
      next_one = next_one % #all + 1
      return all[next_one]
    end
  end
end

done = function(summary)
  local errors = summary.errors
  print(string.format(
    "RESULT requests=%d bytes=%d micros=%d refused=%d connect=%d read=%d write=%d timeout=%d",
    summary.requests, summary.bytes, summary.duration, errors.status, errors.connect, errors.read, errors.write,
    errors.timeout))
end

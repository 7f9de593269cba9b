-- wrk's load: ranges of one length at random aligned offsets of one file, from a fixed seed; prints one line of JSON.
-- Arguments after "--": the size of the file, the length of a range.

local length, blocks, head

function init(args)
  local size = tonumber(args[1])
  length = tonumber(args[2])
  blocks = math.floor(size / length)
  math.randomseed(20260101)
  head = string.format("GET %s HTTP/1.1\r\nHost: %s:%s\r\nRange: bytes=", wrk.path, wrk.host, wrk.port)
end

function request()
  local start = (math.random(blocks) - 1) * length
  return head .. string.format("%.0f-%.0f\r\n\r\n", start, start + length - 1)
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration": %d, "bytes": %.0f, "p50": %.0f, "p99": %.0f, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end

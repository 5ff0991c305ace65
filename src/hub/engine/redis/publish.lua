-- Numbers a publication, keeps it, and publishes it to all nodes. All checks stand before the first write, and the
-- stream is written first: a key of another type is an error that changes nothing.
--
-- KEYS: head, topics, stream, values, and for a request with a key the one that recognises its repeats. ARGV: see
-- `publish_words` in shared.rs.
local head, topics, stream, values, once = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local new_epoch, seen_epoch, seen_number = ARGV[1], ARGV[2], tonumber(ARGV[3])
local topic, channel, payload = ARGV[4], ARGV[5], ARGV[6]
local count, age, key, topics_max = tonumber(ARGV[7]), ARGV[8], ARGV[9], tonumber(ARGV[10])
local keeps_latest, second = ARGV[11] == '1', ARGV[12]
local publish, feed = ARGV[13], ARGV[14]
local request, once_seconds = ARGV[15], ARGV[16]

if once then
    local known = redis.call('GET', once)
    if known then
        local known_request, known_epoch, known_number = string.match(known, '^(%x+) (%x+) (%d+)$')
        if known_request ~= request then
            return {'', '', 'other request'}
        end
        return {known_epoch, known_number, 'repeat'}
    end
end

local epoch, number = unpack(redis.call('HMGET', head, 'epoch', 'number'))
local previous = redis.call('ZSCORE', topics, topic) or '0'
if keeps_latest then
    redis.call('HLEN', values)
end

number = tonumber(number or 0)
if not epoch or (epoch == seen_epoch and number < seen_number) then
    -- The server has lost publications that a node has seen. Streams that it still has hold lower numbers.
    local newest = redis.call('ZREVRANGE', topics, 0, 0, 'WITHSCORES')[2]
    epoch = new_epoch
    number = math.max(number, seen_number, tonumber(newest or 0))
end
local digits = string.format('%.0f', number + 1)
local message = '1 ' .. epoch .. ' ' .. digits .. ' ' .. payload

if count > 0 then
    redis.call('XADD', stream, 'MAXLEN', count, digits .. '-' .. second, 'p', previous, 'm', message)
    redis.call('EXPIRE', stream, age)
end
redis.call('HSET', head, 'epoch', epoch, 'number', digits)
redis.call('ZADD', topics, digits, topic)
if previous == '0' and topics_max < redis.call('ZCARD', topics) then
    -- A topic that is forgotten raises the floor of all.
    local oldest = redis.call('ZPOPMIN', topics)
    redis.call('HSET', head, 'floor', oldest[2])
end
if keeps_latest then
    redis.call('HSET', values, key, message)
    redis.call('EXPIRE', values, age)
end
if once then
    redis.call('SET', once, request .. ' ' .. epoch .. ' ' .. digits, 'EX', once_seconds)
end
redis.call(publish, channel, message)
if feed ~= '' then
    redis.call(publish, feed, topic .. '\n' .. message)
end
return {epoch, digits}

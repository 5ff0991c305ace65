-- Returns the epoch, the newest number and the floor; begins an epoch where there is none, or where the server has lost
-- publications that this node has seen.
--
-- KEYS: head, topics. ARGV: new epoch, epoch and number that the node has seen.
local epoch, number, floor = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'number', 'floor'))
number = tonumber(number or 0)
local seen_number = tonumber(ARGV[3])
if not epoch or (epoch == ARGV[2] and number < seen_number) then
    epoch = ARGV[1]
    local newest = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
    number = math.max(number, seen_number, tonumber(newest or 0))
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'number', string.format('%.0f', number))
end
return {epoch, string.format('%.0f', number), floor or '0'}

-- Forgets a group, whoever made it, in whatever state it is. Takes no prelude: a group of another layout or cluster goes, too. What stays
-- for an hour is that it was deleted, for members who come late.
-- KEYS: meta, units, open, consumers, topics, events, error-queue, probe-queue, then for each topic: parts, work-queue, working-queue,
--   delay-queue, idle
-- ARGV: the topics.  Reply: OK; or TOPICS, {those that the keys name}: all of them are to be among the topics

local call = redis.call
local META, UNITS, OPEN, CONSUMERS, TOPICS = unpack(KEYS, 1, 5)
local named = {}
for i = 1, #ARGV do named[ARGV[i]] = true end
local left = topics_named(TOPICS, UNITS, OPEN, CONSUMERS)
for _, name in ipairs(left) do
    if not named[name] then return {'TOPICS', left} end
end
local incarnation = redis.pcall('HGET', META, 'incarnation')
if type(incarnation) ~= 'string' then incarnation = nil end
for i = 1, #KEYS do call('UNLINK', KEYS[i]) end
call('HSET', META, 'deleted', 1)
if incarnation then call('HSET', META, 'incarnation', incarnation) end
call('EXPIRE', META, 3600)
return {'OK'}

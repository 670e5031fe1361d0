-- Forgets a group, whoever made it, in whatever state it is. Takes no prelude: a group of another layout or cluster goes, too. What stays
-- for an hour is that it was deleted, for members who come late.
-- KEYS: meta, units, open, consumers, topics, events, error-queue, probe-queue, then for each topic: parts, work-queue, working-queue,
--   delay-queue, idle
-- ARGV: the topics.  Reply: OK; or TOPICS when the group has others by now

local call = redis.call
local META, TOPICS = KEYS[1], KEYS[5]
local named = {}
for i = 1, #ARGV do named[ARGV[i]] = true end
for _, name in ipairs(call('HKEYS', TOPICS)) do
    if not named[name] then return {'TOPICS'} end
end
local incarnation = call('HGET', META, 'incarnation')
for i = 1, #KEYS do call('UNLINK', KEYS[i]) end
call('HSET', META, 'deleted', 1)
if incarnation then call('HSET', META, 'incarnation', incarnation) end
call('EXPIRE', META, 3600)
return {'OK'}

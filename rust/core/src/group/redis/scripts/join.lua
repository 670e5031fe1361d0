-- A member comes: makes the group if there is none, and holds the member's cluster and settings against the group's. Takes no prelude:
-- there may be no group yet. The settings of a group may be changed when nobody is left who relies on them; see change.lua.
-- KEYS: the group's, then those of topics.  ARGV: version, incarnation and run id for a new group, the id of the Kafka cluster that the
--   member reads or nothing, settings (numbers), clock; nothing at connect, 'again' for a member that was in the group, or the incarnation
--   that is damaged and goes; the topics
-- Reply: OK, incarnation, 1 for a new group, {its settings}; CLUSTER, the id of the group's Kafka cluster; or REMAINS, {topics that what is
--   left of an earlier group names}: all of them are to be among the topics

local META, UNITS, OPEN, CONSUMERS, TOPICS, EVENTS, PARKED_UNITS, PROBES = unpack(KEYS, 1, 8)
local call = redis.call
local version, incarnation, run, cluster, n = ARGV[1], ARGV[2], ARGV[3], ARGV[4], 5
local settings = {}
for i = 1, n do settings[i] = tonumber(ARGV[4 + i]) end
local now, came = ARGV[5 + n], ARGV[6 + n]
local m = redis.pcall('HMGET', META, 'version', 'incarnation', 'deleted', 'settings', 'last', 'grace', 'turns', 'organiser',
    'organised', 'run', 'cluster', 'before')
-- Under our key is what was never a group: nothing of it is ours. A member that was in the group knows that it is.
if m.err and came == '' then return m end

local function is_whole()
    local readable, theirs = pcall(cmsgpack.unpack, m[4])
    if not readable or type(theirs) ~= 'table' or not m[2] or not m[8] or not m[10] then return false end
    for i = 1, n do
        if type(theirs[i]) ~= 'number' then return false end
    end
    return tonumber(m[5]) and tonumber(m[6]) and tonumber(m[7]) and tonumber(m[9])
end

if m[1] and not m[3] then
    if m[1] ~= version then return {'VERSION', m[1]} end
    -- What the group holds is about the records of its cluster. The first id that is named stays.
    local known = m[11] or ''
    if known == '' and cluster ~= '' then
        call('HSET', META, 'cluster', cluster)
    elseif cluster ~= '' and known ~= cluster then
        return {'CLUSTER', known}
    end
    if is_whole() and m[2] ~= came then return {'OK', m[2], 0, cmsgpack.unpack(m[4])} end
end
-- What is left of another life of the group must not become part of this one.
local given = {}
for i = 7 + n, #ARGV do given[ARGV[i]] = true end
local left = topics_named(TOPICS, UNITS, OPEN, CONSUMERS)
for _, name in ipairs(left) do
    if not given[name] then return {'REMAINS', left} end
end
for i = 9, #KEYS do call('UNLINK', KEYS[i]) end
call('UNLINK', META, UNITS, OPEN, CONSUMERS, TOPICS, PARKED_UNITS, PROBES)
-- Its events are what happened, all the same.
if type(redis.pcall('XLEN', EVENTS)) ~= 'number' then call('UNLINK', EVENTS) end
if now == '' then
    local time = call('TIME')
    now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end
-- A member of a group that was deleted and comes late is told so, also when the next group is there already.
local before = m[3] and m[2] or m[12] or ''
call('HSET', META, 'version', version, 'incarnation', incarnation, 'settings', cmsgpack.pack(settings), 'cluster', cluster, 'last', now,
    'grace', 0, 'turns', 0, 'organiser', '', 'organised', 0, 'run', run, 'before', before)
return {'OK', incarnation, 1, settings}

-- A member comes: makes the group if there is none, and holds the member's cluster and settings against the group's. Takes no prelude:
-- there may be no group yet. The settings of a group may be changed when nobody is left who relies on them; see change.lua.
-- KEYS: meta, consumers.  ARGV: version, incarnation and run id for a new group, the id of the Kafka cluster that the member reads or
--   nothing, settings (numbers), clock
-- Reply: OK, incarnation, 1 for a new group, {its settings}, how many members; or CLUSTER, the id of the group's Kafka cluster

local META, CONSUMERS = KEYS[1], KEYS[2]
local call = redis.call
local version, incarnation, run, cluster, n = ARGV[1], ARGV[2], ARGV[3], ARGV[4], 5
local settings = {}
for i = 1, n do settings[i] = tonumber(ARGV[4 + i]) end
local m = call('HMGET', META, 'version', 'incarnation', 'deleted', 'settings', 'cluster')
if m[1] and not m[3] then
    if m[1] ~= version then return {'VERSION', m[1]} end
    -- What the group holds is about the records of its cluster. The first id that is named stays.
    local known = m[5] or ''
    if known == '' and cluster ~= '' then
        call('HSET', META, 'cluster', cluster)
    elseif cluster ~= '' and known ~= cluster then
        return {'CLUSTER', known}
    end
    return {'OK', m[2], 0, cmsgpack.unpack(m[4]), call('HLEN', CONSUMERS)}
end
local now = ARGV[5 + n]
if now == '' then
    local time = call('TIME')
    now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end
-- A member of a group that was deleted and comes late is told so, also when the next group is there already.
local before = m[3] and m[2] or ''
call('DEL', META)
call('HSET', META, 'version', version, 'incarnation', incarnation, 'settings', cmsgpack.pack(settings), 'cluster', cluster, 'last', now,
    'grace', 0, 'turns', 0, 'organiser', '', 'organised', 0, 'run', run, 'before', before)
return {'OK', incarnation, 1, settings, 0}

-- A member comes: makes the group if there is none, and holds the member's settings against the group's. Takes no prelude: there may
-- be no group yet. The settings of a group may be changed when nobody is left who relies on them; see change.lua.
-- KEYS: meta, consumers.  ARGV: version, incarnation and run id for a new group, settings (numbers), clock
-- Reply: OK, incarnation, 1 for a new group, {its settings}, how many members

local META, CONSUMERS = KEYS[1], KEYS[2]
local call = redis.call
local version, incarnation, run, n = ARGV[1], ARGV[2], ARGV[3], 5
local settings = {}
for i = 1, n do settings[i] = tonumber(ARGV[3 + i]) end
local m = call('HMGET', META, 'version', 'incarnation', 'deleted', 'settings')
if m[1] and not m[3] then
    if m[1] ~= version then return {'VERSION', m[1]} end
    return {'OK', m[2], 0, cmsgpack.unpack(m[4]), call('HLEN', CONSUMERS)}
end
local now = ARGV[9]
if now == '' then
    local time = call('TIME')
    now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end
call('DEL', META)
call('HSET', META, 'version', version, 'incarnation', incarnation, 'settings', cmsgpack.pack(settings), 'last', now, 'grace', 0,
    'turns', 0, 'organiser', '', 'organised', 0, 'run', run)
return {'OK', incarnation, 1, settings, 0}

-- Everything there is of a group as text, a line a thing, as GroupState::dump has it. KEYS: the group's. ARGV: the keys' prefix

local META, UNITS, OPEN, CONSUMERS, TOPICS, _, PARKED, PROBES = unpack(KEYS)
local call, unp, fmt = redis.call, cmsgpack.unpack, string.format
local out = {}
local function int(n) return fmt('%.0f', n) end
local function say(...) out[#out + 1] = table.concat({...}, ' ') end
local function hex(id) return (string.gsub(id, '.', function(c) return fmt('%02x', string.byte(c)) end)) end
local function pairs_of(key)
    local flat, i = call('HGETALL', key), -1
    return function() i = i + 2; return flat[i], flat[i + 1] and {unp(flat[i + 1])} end
end
local function list(what, key)
    local flat = call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #flat, 2 do say(what, flat[i], int(tonumber(flat[i + 1]))) end
end

local m = call('HMGET', META, 'last', 'grace', 'turns', 'lost', 'organiser', 'organised', 'cluster')
say('meta', m[7] == '' and '-' or m[7], m[1], m[2], m[3], m[4] or '0', m[5] == '' and '-' or m[5] .. ' ' .. m[6])
for name, t in pairs_of(TOPICS) do
    local retired = {}
    for i, id in ipairs(t[6]) do retired[i] = hex(id) end
    say('topic', name, hex(t[1]), int(t[2]), int(t[3]), int(t[4]), int(t[5]), table.concat(retired, ','), int(t[7]))
    for number, p in pairs_of(ARGV[1] .. 'parts/' .. name) do
        local row = {}
        for i = 1, 14 do row[i] = int(p[i]) end
        say('part', name .. '/' .. number, table.concat(row, ' '))
    end
    list('ring ' .. name, ARGV[1] .. 'work-queue/' .. name)
    list('leased', ARGV[1] .. 'working-queue/' .. name)
    list('waiting', ARGV[1] .. 'delay-queue/' .. name)
end
for id, u in pairs_of(UNITS) do
    say('unit', id, int(u[1]), int(u[2]), int(u[3]), u[4], int(u[5]), int(u[6]), int(u[7]), int(u[8]))
end
for _, id in ipairs(call('ZRANGE', OPEN, 0, -1)) do say('open', id) end
list('parked', PARKED)
list('probes', PROBES)
for id, c in pairs_of(CONSUMERS) do
    say('member', id, int(c[1]), int(c[2]), int(c[3]), table.concat(c[5], ','), table.concat(c[6], ','), int(c[7]))
end
return out

-- Whether the rows of the group and its indexes fit together. Steps are atomic, so they always do, unless something else wrote to
-- the keys. Everything is read with care: any key may hold anything.
-- ARGV: how deep: 0 counts and the rows of members and topics, 1 the rows of partitions too, 2 those of units too
-- Reply: OK, what is wrong or nothing, {topics that the keys name}

local depth, wrong = arg(), false
local function bad(key, what) wrong = wrong or key .. ' ' .. what end

local function count(command, key)
    local n = redis.pcall(command, key)
    if type(n) == 'number' then return n end
    bad(key, 'is of another type')
    return 0
end

local function rows(key)
    local flat = redis.pcall('HGETALL', key)
    if not flat.err then return flat end
    bad(key, 'is of another type')
    return {}
end

-- The values of a row behind `true`, or nil. Kinds: n number, s text, t array.
local KINDS = {n = 'number', s = 'string', t = 'table'}
local function decode(key, field, row, kinds)
    local values = {pcall(unp, row)}
    for i = 1, #kinds do
        if not values[1] or type(values[i + 1]) ~= KINDS[string.sub(kinds, i, i)] then
            bad(key, 'has a row that is not whole: ' .. field)
            return nil
        end
    end
    return values
end

local function same(key, what, is, counted)
    if is ~= counted then bad(key, fmt('has %s %s, %s were counted', tostring(is), what, tostring(counted))) end
end

for _, i in ipairs({5, 6, 7, 9}) do
    if not tonumber(m[i]) then bad(META, 'is not whole') end
end
if not m[8] or not m[10] then bad(META, 'is not whole') end

-- members and topics ------------------------------------------------------------------------------------------------------

local readers = {}
local flat = rows(CONSUMERS)
for i = 1, #flat, 2 do
    local c = decode(CONSUMERS, flat[i], flat[i + 1], 'nnnnttn')
    for _, name in ipairs(c and c[6] or {}) do readers[name] = (readers[name] or 0) + c[3] end
end
-- A topic may have come since the caller asked which there are: then the sums of all topics say nothing.
local known, complete = {}, true
flat = rows(TOPICS)
for i = 1, #flat, 2 do
    local t = decode(TOPICS, flat[i], flat[i + 1], 'snnnnttnnn')
    known[flat[i]] = t
    complete = complete and keys[flat[i]] ~= nil
    if t then same(CONSUMERS, 'readers of ' .. flat[i], readers[flat[i]] or 0, t[5]) end
end
for name in pairs(readers) do
    if not known[name] then bad(TOPICS, 'lacks ' .. name .. ', which members read') end
end

-- partitions ----------------------------------------------------------------------------------------------------------------

local there, parked_in_rows, probed_in_rows = {}, 0, 0

local function check_parts(name, k, t, queued)
    local standing, backlog, in_flight = 0, 0, 0
    local flat = rows(k.parts)
    for i = 1, #flat, 2 do
        local p = decode(k.parts, flat[i], flat[i + 1], 'nnnnnnnnnnnnnnn')
        if p then
            there[name .. '/' .. flat[i]] = true
            if p[13] >= 0 then standing, backlog = standing + 1, backlog + p[13] end
            in_flight, parked_in_rows = in_flight + p[8], parked_in_rows + p[9]
            if p[9] > 0 then probed_in_rows = probed_in_rows + 1 end
        end
    end
    same(k.parts, 'partitions in the queue', standing, t[11])
    same(k.parts, 'offsets in the queue', backlog, t[4])
    same(k.parts, 'units in flight', in_flight, queued)
end

local open = 0
for _, name in ipairs(names) do
    local k, t = keys[name], known[name]
    local parts, ring = count('HLEN', k.parts), count('ZCARD', k.ring)
    local queued = count('ZCARD', k.leased) + count('ZCARD', k.waiting)
    count('ZCARD', k.idle)
    open = open + queued
    if t then
        same(k.parts, 'partitions', parts, t[10])
        same(k.ring, 'partitions', ring, t[11])
        if depth > 0 then check_parts(name, k, t, queued) end
    elseif parts + ring + queued > 0 then
        bad(TOPICS, 'lacks ' .. name .. ', which has keys')
    end
end

-- units ---------------------------------------------------------------------------------------------------------------------

local held, parked = count('HLEN', UNITS), count('ZCARD', PARKED_UNITS)
count('XLEN', EVENTS)
same(OPEN, 'units', count('ZCARD', OPEN), held)
if complete then same(UNITS, 'units', held, open + parked) end
-- What is parked is tried again: a partition without a place in that queue would never be.
local probed = count('ZCARD', PROBES)
same(PROBES, 'partitions with parked units', probed > 0, parked > 0)
if complete and depth > 0 then
    same(PARKED_UNITS, 'units', parked, parked_in_rows)
    same(PROBES, 'partitions', probed, probed_in_rows)
end

local function check_unit(id, row)
    local u = decode(UNITS, id, row, 'nnnsnnnn')
    if not u then return end
    local pid, phase = string.sub(id, 1, -18), u[7]
    local k = keys[string.match(pid, '^(.*)/%d+$') or '']
    if not k then return complete and bad(UNITS, 'has a unit of no topic: ' .. id) end
    local list = phase == PARKED and PARKED_UNITS or phase == LEASED and k.leased or k.waiting
    local time = call('ZSCORE', list, id)
    if not there[pid] or not time or tonumber(time) ~= u[8] or not call('ZSCORE', OPEN, id) then
        bad(UNITS, 'has a unit that is not in its places: ' .. id)
    end
end

local cursor = '0'
while depth > 1 and cursor and not wrong do
    local page = call('HSCAN', UNITS, cursor, 'COUNT', 500)
    for i = 1, #page[2], 2 do check_unit(page[2][i], page[2][i + 1]) end
    cursor = page[1] ~= '0' and page[1]
end

return {'OK', wrong or '', wrong and topics_named(TOPICS, UNITS, OPEN, CONSUMERS) or {}}

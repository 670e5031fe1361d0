-- What every script of a group begins with: the keys, the group's row, and partitions, units and topics as objects that are
-- read once and written once.
--
-- A script is one step of the state machine in group/state (Rust), which says what the steps mean and why; names are the
-- same. Steps change objects; `sync` writes units and their indexes, which must happen before an index is read again;
-- `flush` writes all the rest, in the end.
--
-- All keys are declared and share one hash tag:
--   1 meta 2 units 3 open 4 consumers 5 topics 6 events 7 error-queue 8 probe-queue, then for each topic named in ARGV:
--   parts/<topic> work-queue/<topic> working-queue/<topic> delay-queue/<topic> idle/<topic>
-- ARGV: one msgpack array, which is read five times as fast as texts: version, incarnation, clock (0: Redis's; others are for
-- simulations), {topics}, then the script's own.
--
-- A row is its values in msgpack, one behind the other and in no array: that is read five times as fast, and written in two thirds.
--
-- Numbers are doubles: offsets above 2^53 are refused by the caller. They become text by '%d' alone, which is exact up to there;
-- `..` would round them to 14 digits.

local META, UNITS, OPEN, CONSUMERS, TOPICS, EVENTS, PARKED_UNITS, PROBES = unpack(KEYS, 1, 8)
local call, pack, unp, fmt = redis.call, cmsgpack.pack, cmsgpack.unpack, string.format
local floor, min, max = math.floor, math.min, math.max

local HELD = 2 ^ 52                     -- due never, see hold_back
local PARKED_PER_PARTITION = 1024
local LONGEST_BACKOFF, LONGEST_DELAY = 60000, 24 * 3600000
local PROBE_EVERY = 60000
local REAP_AT_ONCE = 16
local WAKE_AT_ONCE = 64
local NO_ID = string.rep('\0', 16)
local WAITS, LEASED, PARKED = 0, 1, 2   -- phases of a unit

local A, at = unp(ARGV[1]), 4
local function arg() at = at + 1; return A[at] end

local version, incarnation = A[1], A[2]
local m = call('HMGET', META, 'version', 'incarnation', 'deleted', 'settings', 'last', 'grace', 'turns', 'organiser',
    'organised', 'run')
if m[3] then return {'DELETED'} end
if not m[1] then return {'NOGROUP'} end
if m[1] ~= version then return {'VERSION', m[1]} end
if m[2] ~= incarnation then
    -- Another life of the group; the one that the caller knows may have been deleted.
    return {call('HGET', META, 'before') == incarnation and 'DELETED' or 'OTHER', m[2]}
end
local now = A[3]
if now == 0 then
    local time = call('TIME')
    now = time[1] * 1000 + floor(time[2] / 1000)
end
local lease, max_attempts, consume_step, units_per_partition, retry_backoff = unpack(unp(m[4]))
local ordered = units_per_partition == 1
local turns = tonumber(m[7])

local names, keys = A[4], {}
for i, name in ipairs(names) do
    local k = 4 + 5 * i
    keys[name] = {parts = KEYS[k], ring = KEYS[k + 1], leased = KEYS[k + 2], waiting = KEYS[k + 3], idle = KEYS[k + 4]}
end

-- A command with any number of arguments (Lua's own limit is some thousands).
local function many(command, key, args)
    for i = 1, #args, 1000 do call(command, key, unpack(args, i, min(i + 999, #args))) end
end

local function put(lists, key, a, b)
    local list = lists[key]
    if not list then list = {}; lists[key] = list end
    list[#list + 1] = a
    list[#list + 1] = b
end

local function event(...) call('XADD', EVENTS, 'MAXLEN', '~', 10000, '*', ...) end
local function int(n) return fmt('%d', n) end

-- topics ----------------------------------------------------------------------------------------------------------------

local topics, changed_topics = {}, {}

local function changed(t)
    if not t.changed then t.changed = true; changed_topics[#changed_topics + 1] = t end
end

local function known_topic(name)
    local t = topics[name]
    if t == nil then
        local row = call('HGET', TOPICS, name)
        t = false
        if row then
            local id, settled, backlog, readers, unused, retired, lacking = unp(row)
            t = {name = name, id = id, settled = settled, backlog = backlog, readers = readers, unused = unused, retired = retired,
                lacking = lacking}
        end
        topics[name] = t
    end
    return t
end

local function topic(name)
    local t = known_topic(name)
    if not t then
        t = {name = name, id = NO_ID, settled = 0, backlog = 0, readers = 0, unused = -1, retired = {}, lacking = 0}
        topics[name] = t
        changed(t)
    end
    return t
end

-- partitions ------------------------------------------------------------------------------------------------------------

local parts, changed_parts = {}, {}

local function read_part(pid, name, number, row)
    if not row then parts[pid] = false; return false end
    local cursor, high, low, start, generation, epoch, in_flight, parked, paused, weight, served, listed, probe_at, probes =
        unp(row)
    local p = {pid = pid, topic = name, number = number, cursor = cursor, high = high, low = low, start = start,
        generation = generation, epoch = epoch, in_flight = in_flight, parked = parked, paused = paused, weight = weight,
        served = served, listed = listed, ring = listed >= 0 and served, changed = false, moved = false,
        probe_at = probe_at, probes = probes, queued = parked > 0 and probe_at}
    parts[pid] = p
    return p
end

-- Partition `<topic>/<number>`, or false.
local function part(pid)
    local p = parts[pid]
    if p == nil then
        local name, number = string.match(pid, '^(.*)/(%d+)$')
        p = read_part(pid, name, number, call('HGET', keys[name].parts, number))
    end
    return p
end

local function can_carve(p)
    return p.paused == 0 and p.cursor < p.high and p.in_flight < units_per_partition and p.parked < PARKED_PER_PARTITION
end

-- units -----------------------------------------------------------------------------------------------------------------
-- A unit's id is `<topic>/<partition>@<16 digits of where it was carved>`, so `open` is in order of offset.

local units, touched = {}, {}

local function touch(u)
    if not u.touched then u.touched = true; touched[#touched + 1] = u end
end

local function list_of(u)
    if u.phase == PARKED then return PARKED_UNITS end
    local k = keys[part(u.pid).topic]
    return u.phase == LEASED and k.leased or k.waiting
end

local function read_unit(id, row)
    if not row then units[id] = false; return false end
    local progress, stop, attempt, holder, request, phase, time, probe = unp(row)
    local pid = string.sub(id, 1, -18)
    local u = {id = id, pid = pid, progress = progress, stop = stop, attempt = attempt,
        holder = holder, request = request, phase = phase, time = time, probe = probe}
    u.list, u.score = list_of(u), time
    units[id] = u
    return u
end

local function unit(id)
    local u = units[id]
    if u == nil then u = read_unit(id, call('HGET', UNITS, id)) end
    return u
end

-- Reads units in one go.
local function fetch(ids)
    local missing = {}
    for i = 1, #ids do if units[ids[i]] == nil then missing[#missing + 1] = ids[i] end end
    for i = 1, #missing, 1000 do
        local to = min(i + 999, #missing)
        local rows = call('HMGET', UNITS, unpack(missing, i, to))
        for k = i, to do read_unit(missing[k], rows[k - i + 1]) end
    end
end

local function new_unit(p, carved_at, stop, attempt, holder, request, phase, time)
    local id = p.pid .. '@' .. fmt('%016d', carved_at)
    local u = {id = id, pid = p.pid, progress = carved_at, stop = stop, attempt = attempt, holder = holder,
        request = request, phase = phase, time = time, probe = 0}
    units[id] = u
    touch(u)
    return u
end

-- Whether the unit is the claim that a member speaks of. The claim's identity is the client's: a counter of the server's
-- could repeat after it lost its latest writes.
local function belongs(u, consumer, request, stop)
    return u.request == request and u.stop == stop and u.holder == consumer
end

local function forget(u)
    u.gone = true
    units[u.id] = false
    touch(u)
    local p = part(u.pid)
    if u.phase == PARKED then p.parked = p.parked - 1 else p.in_flight = p.in_flight - 1 end
    p.moved = true
end

-- Takes in how far its holder is; attempts are those of the record it stands at.
local function advance_unit(u, progress)
    if progress > u.progress and progress < u.stop then
        u.progress = progress
        u.attempt = min(u.attempt, 1)
        part(u.pid).moved = true
        touch(u)
    end
end

local function wait_until(u, due) u.phase, u.time = WAITS, due; touch(u) end

-- Writes changed units and their indexes.
local function sync()
    if #touched == 0 then return end
    local rows, gone, opened, adds, drops = {}, {}, {}, {}, {}
    for i = 1, #touched do
        local u = touched[i]
        u.touched = false
        if u.gone then
            if u.list then gone[#gone + 1] = u.id; put(drops, u.list, u.id) end
        else
            local list = list_of(u)
            rows[#rows + 1] = u.id
            rows[#rows + 1] = pack(u.progress, u.stop, u.attempt, u.holder, u.request, u.phase, u.time, u.probe)
            if not u.list then
                opened[#opened + 1] = 0
                opened[#opened + 1] = u.id
            elseif u.list ~= list then
                put(drops, u.list, u.id)
            end
            if u.list ~= list or u.score ~= u.time then put(adds, list, u.time, u.id) end
            u.list, u.score = list, u.time
        end
    end
    touched = {}
    many('HDEL', UNITS, gone)
    many('ZREM', OPEN, gone)
    for key, ids in pairs(drops) do many('ZREM', key, ids) end
    many('HSET', UNITS, rows)
    many('ZADD', OPEN, opened)
    for key, scores in pairs(adds) do many('ZADD', key, scores) end
end

-- The open units of a partition, in order.
local function units_of(p)
    sync()
    local ids = call('ZRANGEBYLEX', OPEN, '[' .. p.pid .. '@', '(' .. p.pid .. 'A')
    fetch(ids)
    for i = 1, #ids do ids[i] = unit(ids[i]) end
    return ids
end

-- Which waiting units of a partition may be delivered: all, but nothing of a paused one, and in an ordered one only the first
-- and only while nothing is leased. What may not go is HELD, instead of being looked at by every claim.
local function hold_back(p)
    local open, leased = units_of(p), false
    for i = 1, #open do leased = leased or open[i].phase == LEASED end
    local first = p.paused == 0 and not leased
    for i = 1, #open do
        local u = open[i]
        if u.phase == WAITS then
            if first and u.time == HELD then wait_until(u, 0)
            elseif not first and u.time ~= HELD then wait_until(u, HELD) end
            first = false
        end
    end
end

-- What was held may go at once, as far as hold_back lets it.
local function release_held(p)
    for _, u in ipairs(units_of(p)) do
        if u.phase == WAITS and u.time == HELD then wait_until(u, 0) end
    end
end

local function write(p)
    if not p.changed then p.changed = true; changed_parts[#changed_parts + 1] = p end
end

-- After a change of a partition or its units.
local function settle(p)
    if ordered or p.paused == 1 then hold_back(p) end
    local listed = can_carve(p) and p.high - p.cursor or -1
    if listed ~= p.listed then
        local t = topic(p.topic)
        t.backlog = t.backlog + max(listed, 0) - max(p.listed, 0)
        p.listed = listed
        changed(t)
    end
    write(p)
end

-- Takes a partition out of the ring, before it is served or removed. `settle` puts it back.
local function unlist(p)
    if p.listed < 0 then return end
    local t = topic(p.topic)
    t.backlog = t.backlog - p.listed
    p.listed = -1
    changed(t)
    write(p)
end

-- Writes who stands in the rings.
local function sync_rings()
    local adds, drops = {}, {}
    for i = 1, #changed_parts do
        local p = changed_parts[i]
        local ring = p.listed >= 0 and not p.removed and p.served
        if ring ~= p.ring then
            local key = keys[p.topic].ring
            if ring then put(adds, key, ring, p.number) else put(drops, key, p.number) end
            p.ring = ring
        end
    end
    for key, numbers in pairs(drops) do many('ZREM', key, numbers) end
    for key, scores in pairs(adds) do many('ZADD', key, scores) end
end

-- The low watermark: where the first open unit stands.
local function low_watermark(p)
    if p.in_flight + p.parked == 0 then return p.cursor end
    return unit(call('ZRANGEBYLEX', OPEN, '[' .. p.pid .. '@', '(' .. p.pid .. 'A', 'LIMIT', 0, 1)[1]).progress
end

-- Writes everything but the members.
local function flush()
    sync()
    sync_rings()
    local rows, gone = {}, {}
    for i = 1, #changed_parts do
        local p = changed_parts[i]
        p.changed = false
        local queued = p.parked > 0 and not p.removed and p.probe_at
        if queued ~= p.queued then
            if queued then call('ZADD', PROBES, queued, p.pid) else call('ZREM', PROBES, p.pid) end
            p.queued = queued
        end
        if p.removed then
            put(gone, keys[p.topic].parts, p.number)
        else
            if p.moved then p.low = low_watermark(p); p.moved = false end
            put(rows, keys[p.topic].parts, p.number, pack(p.cursor, p.high, p.low, p.start, p.generation, p.epoch, p.in_flight,
                p.parked, p.paused, p.weight, p.served, p.listed, p.probe_at, p.probes))
        end
    end
    changed_parts = {}
    for key, numbers in pairs(gone) do many('HDEL', key, numbers) end
    for key, fields in pairs(rows) do many('HSET', key, fields) end
    local fields = {}
    for i = 1, #changed_topics do
        local t = changed_topics[i]
        t.changed = false
        if not t.removed then
            fields[#fields + 1] = t.name
            fields[#fields + 1] = pack(t.id, t.settled, t.backlog, t.readers, t.unused, t.retired, t.lacking)
        end
    end
    changed_topics = {}
    many('HSET', TOPICS, fields)
end

-- Wakes as many idle members as there are units, the one that waits longest first, each by a channel of its own. A partition
-- counts as one: who claims of it leaves the rest, and so wakes the next. One that nobody listens for is gone: the next.
local function wake()
    local channel = string.sub(META, 1, -5) .. 'wake/'
    for i = 1, #names do
        local k = keys[names[i]]
        local idle = call('ZCARD', k.idle)
        if idle > 0 then
            local n = min(call('ZCARD', k.ring) + call('ZCOUNT', k.waiting, '-inf', now), WAKE_AT_ONCE)
            while n > 0 and idle > 0 do
                local longest = call('ZPOPMIN', k.idle, n)
                if #longest == 0 then break end
                for j = 1, #longest, 2 do
                    idle = idle - 1
                    if call('PUBLISH', channel .. longest[j], '') > 0 then n = n - 1 end
                end
            end
        end
    end
end

-- members ---------------------------------------------------------------------------------------------------------------

local function member(id)
    local row = call('HGET', CONSUMERS, id)
    if not row then return false end
    local request, readers, seen, idle, reads, claimed, lacking = unp(row)
    return {id = id, request = request, readers = readers, seen = seen, idle = idle, topics = reads, units = claimed,
        lacking = lacking}
end

local function write_member(c)
    call('HSET', CONSUMERS, c.id, pack(c.request, c.readers, c.seen, c.idle, c.topics, c.units, c.lacking))
end

-- Takes a member's readers out.
local function uncount(c)
    for _, name in ipairs(c.topics) do
        local t = known_topic(name)
        if t then
            t.readers, t.lacking = t.readers - c.readers, t.lacking - c.lacking
            if t.readers == 0 then t.unused = now end
            changed(t)
        end
    end
end

-- leases that end ---------------------------------------------------------------------------------------------------------

-- Ends a unit at `stop`. The rest goes back to the cursor when nothing stands behind it, else it is a unit of its own.
local function cut_off(u, stop, attempt, due)
    local p, old = part(u.pid), u.stop
    u.stop = stop
    touch(u)
    if p.cursor == old and (ordered or attempt == 0) then
        p.cursor = stop
    else
        p.in_flight = p.in_flight + 1
        new_unit(p, stop, old, attempt, '', 0, WAITS, due)
    end
end

-- As cut_off, and fences the holder, who does not know of the new end.
local function cut(u, stop, attempt, due)
    u.request = 0
    cut_off(u, stop, attempt, due)
    event('e', 'split', 'u', u.id, 'at', int(stop))
end

-- A unit is not delivered any more, until it is its turn to be tried again or somebody unparks it. A partition takes so many and no
-- more: then its failing units are tried again and again, slowly.
local function park(u)
    local p = part(u.pid)
    u.request = 0
    if p.parked == PARKED_PER_PARTITION then return wait_until(u, now + LONGEST_BACKOFF) end
    if p.parked == 0 then p.probe_at, p.probes = now + PROBE_EVERY, 1 end
    p.in_flight, p.parked = p.in_flight - 1, p.parked + 1
    u.phase, u.time, u.probe = PARKED, now, 0
    touch(u)
    event('e', 'parked', 'u', u.id, 'from', int(u.progress), 'to', int(u.stop))
    if p.parked == PARKED_PER_PARTITION then event('e', 'blocked', 'p', p.pid, 'parked', p.parked) end
end

-- A parked unit waits for delivery again. The caller settles.
local function unparked(u, attempt)
    local p = part(u.pid)
    u.attempt = attempt
    p.parked, p.in_flight = p.parked - 1, p.in_flight + 1
    wait_until(u, now)
end

-- A unit whose holder fell silent waits for its next delivery. After too many it is cut in halves, so that the record that kills
-- its readers is found; a unit of one record is parked.
local function expired(u)
    local due = now
    if u.probe == 1 then part(u.pid).probes = 1 end
    if u.attempt >= 2 then due = now + min(retry_backoff * 2 ^ min(u.attempt - 2, 16), LONGEST_BACKOFF) end
    if u.attempt < max_attempts then
        -- Holder and request stay: a late acknowledgement is taken as long as nobody else has the unit.
        wait_until(u, due)
    elseif u.stop - u.progress > 1 then
        cut(u, u.progress + floor((u.stop - u.progress) / 2), max_attempts - 1, due)
        u.attempt = max_attempts - 1
        wait_until(u, due)
    else
        park(u)
    end
end

-- The oldest `most` of these topics whose time has come, by time, topic, unit.
local function due_of(list, reads, most)
    local found = {}
    for i = 1, #reads do
        local ids = call('ZRANGEBYSCORE', keys[reads[i]][list], '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
        for k = 1, #ids, 2 do found[#found + 1] = {tonumber(ids[k + 1]), i, ids[k]} end
    end
    if #reads > 1 then
        table.sort(found, function(a, b)
            if a[1] ~= b[1] then return a[1] < b[1] end
            if a[2] ~= b[2] then return reads[a[2]] < reads[b[2]] end
            return a[3] < b[3]
        end)
    end
    local ids = {}
    for i = 1, min(most, #found) do ids[i] = found[i][3] end
    fetch(ids)
    return ids
end

-- Takes back leases of these topics that ended.
local function reap(reads, grace)
    if now < grace then return end
    sync()
    for _, id in ipairs(due_of('leased', reads, REAP_AT_ONCE)) do
        local u = unit(id)
        event('e', 'expired', 'u', id, 'c', u.holder)
        expired(u)
        settle(part(u.pid))
    end
end

-- Its holder will not go on with a unit, and nothing is wrong with it: that was no attempt. The caller settles.
local function release(u)
    u.attempt, u.request = max(u.attempt - 1, 0), 0
    wait_until(u, now)
    -- What was never worked on and has nothing behind it goes back to the cursor, to be shared out anew.
    local p = part(u.pid)
    while true do
        sync()
        local id = call('ZREVRANGEBYLEX', OPEN, '(' .. p.pid .. 'A', '[' .. p.pid .. '@', 'LIMIT', 0, 1)[1]
        local last = id and unit(id)
        if not last or last.attempt > 0 or last.phase ~= WAITS or last.stop ~= p.cursor then return end
        -- One that waits out its back-off after an attempt that did not count keeps waiting.
        if last.time > now and last.time ~= HELD then return end
        forget(last)
        p.cursor = last.progress
    end
end

-- Drops the units from `stop` on; one that straddles it keeps the part below, and its holder is fenced.
local function drop_units_from(p, stop)
    for _, u in ipairs(units_of(p)) do
        if u.progress >= stop then
            forget(u)
        elseif u.stop > stop then
            if u.phase == PARKED then p.parked, p.in_flight = p.parked - 1, p.in_flight + 1 end
            u.stop, u.request = stop, 0
            wait_until(u, 0)
        end
    end
end

local function remove_part(p)
    drop_units_from(p, -1)
    unlist(p)
    p.removed = true
    write(p)
    parts[p.pid] = false
end

-- The numbers of a topic's partitions, in order.
local function numbers_of(name)
    local numbers = call('HKEYS', keys[name].parts)
    table.sort(numbers, function(a, b) return tonumber(a) < tonumber(b) end)
    return numbers
end

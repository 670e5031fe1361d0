-- One round of a member: acknowledgements, refusals, shortenings, renewals, leases that ended, the next claim, and who watches.
-- ARGV: consumer, request, how many of the topics it reads (the first ones), readers, organise, want, max records, least records,
--   target bytes, whether it waits when it gets less than it wants, the run id of the server that it speaks with, its readers
--   that wait for a unit;
--   acks: n, then id, request, end, high watermark, leader epoch, records, bytes;
--   nacks: n, then id, request, end, progress, delay (-1: released), 1 if it counts,
--   through (-1: one record), reason;
--   shortens: n, then id, request, end, new end;  renews: n, then id, request, end, progress
-- Reply: OK, now, organiser, next event (-1: not asked), {outcomes}, {units: id, topic id, start, end, attempt, request, epoch,
--   deadline}, {by topic that it reads: how many readers of others wait for units that are not there}

local consumer, request, reading, readers, organise, want = arg(), arg(), arg(), arg(), arg() == 1, arg()
local max_records, least_records, target_bytes, waits, run = arg(), arg(), arg(), arg() == 1, arg()
local lacking = arg()
-- Another server than the last time may lack the latest writes: nothing is handed out before the commits in Kafka were applied.
if run ~= m[10] then return {'RECONCILE', m[10]} end

local reads = {}
for i = 1, reading do reads[i] = names[i] end

-- a sign of life --------------------------------------------------------------------------------------------------------

local grace = tonumber(m[6])
-- The whole group was silent: it was its store that was away, not its members. Expire nobody for a lease.
if now - tonumber(m[5]) > floor(lease / 2) then grace = now + lease end

local c = member(consumer)
local same = c and c.readers == readers and #c.topics == #reads
if same then
    for i = 1, #reads do same = same and c.topics[i] == reads[i] end
end
if not same then
    if c then uncount(c) end
    for i = 1, #reads do
        local t = topic(reads[i])
        t.readers, t.unused = t.readers + readers, -1
        changed(t)
    end
    c = c or {id = consumer, request = 0, idle = 0, units = {}}
    c.readers, c.topics, c.lacking = readers, reads, 0
end
c.seen = now

-- what it says of its units ------------------------------------------------------------------------------------------------

local GONE, DONE, FENCED = 0, 1, 2
local outcomes = {}
local function say(outcome) outcomes[#outcomes + 1] = outcome end

local function acknowledged(p, high, epoch, records, bytes)
    if epoch == p.epoch and high > p.high then p.high = high end
    if records > 0 then
        -- Average bytes of an offset, times 256, in whole numbers.
        local weight = max(floor(min(bytes, 2 ^ 40) * 256 / records), 1)
        if p.weight > 0 then weight = max(floor((p.weight * 3 + weight) / 4), 1) end
        p.weight = weight
    end
    settle(p)
end

local acks = arg()
local ids = {}
for k = 1, acks do ids[k] = A[at + 7 * k - 6] end
fetch(ids)
for _ = 1, acks do
    local u, rq, stop, high, epoch, records, bytes = unit(arg()), arg(), arg(), arg(), arg(), arg(), arg()
    if not u then say(GONE)
    -- A late acknowledgement of an expired lease is still a true fact, as long as nobody else was given the unit.
    elseif not belongs(u, consumer, rq, stop) then say(FENCED)
    else
        forget(u)
        -- It was tried again after it had been parked: twice as many the next time.
        if u.probe == 1 then part(u.pid).probes = min(2 * part(u.pid).probes, PARKED_PER_PARTITION) end
        acknowledged(part(u.pid), high, epoch, records, bytes)
        say(DONE)
    end
end

-- The application refused the record at the unit's progress.
local function refused(u, delay, counts, through, reason)
    event('e', 'nacked', 'u', u.id, 'c', consumer, 'r', reason)
    u.request = 0
    if u.probe == 1 then
        -- Back to where it was, at once: in an ordered group it would else keep others waiting.
        part(u.pid).probes = 1
    elseif through < 0 and not counts then
        u.attempt = max(u.attempt - 1, 0)
        return wait_until(u, now + min(delay, LONGEST_DELAY))
    elseif through < 0 and u.attempt < max_attempts then
        return wait_until(u, now + min(delay, LONGEST_DELAY))
    end
    -- It is known which record fails, or which batch: the others need not suffer with it.
    local to = max(through, u.progress + 1)
    if to < u.stop and part(u.pid).parked < PARKED_PER_PARTITION then cut(u, to, 0, now) end
    park(u)
end

for _ = 1, arg() do
    local u, rq, stop, progress = unit(arg()), arg(), arg(), arg()
    local delay, counts, through, reason = arg(), arg() == 1, arg(), arg()
    if not u then say(GONE)
    elseif not belongs(u, consumer, rq, stop) or u.phase ~= LEASED then say(FENCED)
    else
        advance_unit(u, progress)
        if delay < 0 then release(u) else refused(u, delay, counts, through, reason) end
        settle(part(u.pid))
        say(DONE)
    end
end

for _ = 1, arg() do
    local u, rq, old, stop = unit(arg()), arg(), arg(), arg()
    if not u then say(GONE)
    -- A repeated request.
    elseif belongs(u, consumer, rq, stop) then say(DONE)
    elseif not belongs(u, consumer, rq, old) or u.phase == PARKED or (u.phase == WAITS and u.time == HELD)
        or stop <= u.progress or stop >= u.stop then say(FENCED)
    else
        cut_off(u, stop, 0, now)
        settle(part(u.pid))
        say(DONE)
    end
end

for _ = 1, arg() do
    local u, rq, stop, progress = unit(arg()), arg(), arg(), arg()
    if not u then say(GONE)
    elseif not belongs(u, consumer, rq, stop) or u.phase == PARKED or (u.phase == WAITS and u.time == HELD) then say(FENCED)
    else
        -- Expired, but nobody took it: its holder has it back.
        u.phase, u.time = LEASED, now + lease
        touch(u)
        advance_unit(u, progress)
        settle(part(u.pid))
        say(DONE)
    end
end

reap(reads, grace)

-- the claim ------------------------------------------------------------------------------------------------------------------

local given, taken = {}, 0

local function give(u)
    local o = #given
    local p = part(u.pid)
    given[o + 1], given[o + 2], given[o + 3], given[o + 4] = u.id, topic(p.topic).id, u.progress, u.stop
    given[o + 5], given[o + 6], given[o + 7], given[o + 8] = u.attempt, u.request, p.epoch, u.time
    taken = taken + 1
end

-- The answer was lost: the same units again, those that are still this request's, for a whole lease. An older request than the
-- last comes from the past: its sender has gone on.
local function give_again()
    for _, id in ipairs(c.units) do
        local u = unit(id)
        if u and u.request == request and u.holder == consumer and u.phase == LEASED then
            u.time = now + lease
            touch(u)
            give(u)
        end
    end
end

-- A slice of time; see unit_size in Rust.
local function unit_size(p, backlog)
    local size = min(consume_step, max_records)
    if p.weight > 0 then size = min(size, floor(min(target_bytes, 2 ^ 40) * 256 / p.weight)) end
    if not ordered then
        local share = floor(backlog / (2 * max(topic(p.topic).readers, 1)))
        size = min(size, max(share, least_records))
    end
    return max(size, 1)
end

local function carve(p, backlog)
    local size = unit_size(p, backlog)
    unlist(p)
    turns = turns + 1
    local start, stop = p.cursor, min(p.high, p.cursor + size)
    p.served, p.cursor, p.in_flight = turns, stop, p.in_flight + 1
    local u = new_unit(p, start, stop, 1, consumer, request, LEASED, now + lease)
    settle(p)
    return u
end

-- Partitions of these topics in turn: the one that was served longest ago first. What was served goes to the end.
local function rings(most)
    local lists = {}
    for i = 1, #reads do
        local ring = call('ZRANGE', keys[reads[i]].ring, 0, most - 1, 'WITHSCORES')
        if #ring > 0 then lists[#lists + 1] = {name = reads[i], at = 1, ring = ring} end
    end
    table.sort(lists, function(a, b) return a.name < b.name end)
    return lists
end

local function next_of(lists)
    local first, score, number
    for i = 1, #lists do
        local list = lists[i]
        local s, n = tonumber(list.ring[list.at + 1]), tonumber(list.ring[list.at])
        if s and (not first or s < score or (s == score and n < number)) then first, score, number = list, s, n end
    end
    if not first then return nil end
    first.at = first.at + 2
    return first
end

local function claim()
    local claimed = {}
    sync()
    for _, id in ipairs(due_of('waiting', reads, want)) do
        local u = unit(id)
        u.attempt, u.holder, u.request, u.phase, u.time = u.attempt + 1, consumer, request, LEASED, now + lease
        touch(u)
        settle(part(u.pid))
        claimed[#claimed + 1] = u
    end
    if #claimed < want then
        sync_rings()
        local lists = rings(want)
        local backlog = 0
        if #lists > 0 and not ordered then
            for i = 1, #reads do
                local t = known_topic(reads[i])
                if t then backlog = backlog + t.backlog end
            end
        end
        while #claimed < want do
            local list = next_of(lists)
            if not list then break end
            local number = list.ring[list.at - 2]
            local p, t = part(list.name .. '/' .. number), topic(list.name)
            local before = t.backlog
            claimed[#claimed + 1] = carve(p, backlog)
            backlog = backlog + t.backlog - before
            if p.listed >= 0 then
                list.ring[#list.ring + 1] = number
                list.ring[#list.ring + 1] = p.served
            end
        end
    end
    c.request, c.units = request, {}
    for i, u in ipairs(claimed) do
        c.units[i] = u.id
        give(u)
    end
end

if want > 0 then
    if c.request >= request then give_again() else claim() end
end

-- who watches, who waits -------------------------------------------------------------------------------------------------------

local mine, free = m[8] == consumer, m[8] == '' or tonumber(m[9]) <= now
local organiser, organised = m[8], m[9]
if organise and (mine or free) then
    organiser, organised = consumer, int(now + lease)
elseif mine then
    organiser = ''
end

local dry = waits and taken < want
if dry or c.idle == 1 then
    for i = 1, #reads do
        if dry then call('ZADD', keys[reads[i]].idle, 'NX', now, consumer) else call('ZREM', keys[reads[i]].idle, consumer) end
    end
    c.idle = dry and 1 or 0
end
-- Who waits for a unit and could not be given one.
lacking = max(lacking - taken, 0)
if lacking ~= c.lacking then
    for i = 1, #reads do
        local t = topic(reads[i])
        t.lacking = t.lacking - c.lacking + lacking
        changed(t)
    end
    c.lacking = lacking
end
flush()
write_member(c)
local lack = {}
for i = 1, #reads do
    local others, k = topic(reads[i]).lacking - lacking, keys[reads[i]]
    if others > 0 then others = max(others - call('ZCARD', k.ring) - call('ZCOUNT', k.waiting, '-inf', now), 0) end
    lack[i] = others
end
call('HSET', META, 'last', int(now), 'turns', int(turns), 'grace', int(grace))
if organiser ~= m[8] or organised ~= m[9] then call('HSET', META, 'organiser', organiser, 'organised', organised) end
wake()

-- When time may bring work: a unit is due, or a lease ends, that of the organiser among them.
local next_event = -1
if dry then
    next_event = now + lease
    for i = 1, #reads do
        local due = call('ZRANGE', keys[reads[i]].waiting, 0, 0, 'WITHSCORES')[2]
        if due and tonumber(due) < HELD then next_event = min(next_event, tonumber(due)) end
        local ends = call('ZRANGE', keys[reads[i]].leased, 0, 0, 'WITHSCORES')[2]
        if ends then next_event = min(next_event, max(tonumber(ends), grace)) end
    end
    if organiser ~= '' and organiser ~= consumer then next_event = min(next_event, tonumber(organised)) end
end
return {'OK', now, organiser == consumer and 1 or 0, next_event, outcomes, given, lack}

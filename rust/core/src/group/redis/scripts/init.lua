-- Fixes the start of partitions; the first writer wins.
-- ARGV: nonce, n, then topic, partition, topic id, leader epoch, start, high watermark, log start, the pending start that it was found
--   for (-1: its first record, -2: none), how many done, then from, to each
-- Reply: OK, how many were started

local RETIRED = 16

-- Drops all partitions of a topic that was created again, and what was pending of it.
local function forget_partitions(name)
    topic(name).pending = {}
    for _, number in ipairs(numbers_of(name)) do
        local p = part(name .. '/' .. number)
        if p then
            remove_part(p)
            event('e', 'recreated', 'p', p.pid)
        end
    end
    flush()
end

local function is_retired(t, id)
    for _, old in ipairs(t.retired) do
        if old == id then return true end
    end
    return false
end

local function identify(t, id)
    if is_retired(t, id) then return false end
    if t.id == NO_ID then
        t.id = id
    elseif t.id ~= id and id ~= NO_ID then
        t.retired[#t.retired + 1] = t.id
        if #t.retired > RETIRED then table.remove(t.retired, 1) end
        t.id = id
        forget_partitions(t.name)
    end
    t.settled = 1
    changed(t)
    return true
end

local nonce, started = arg(), 0
for _ = 1, arg() do
    local name, number, id, epoch, start, high, log_start = arg(), arg(), arg(), arg(), arg(), arg(), arg()
    local pid, found_for, done = name .. '/' .. number, arg(), arg()
    local known, t = identify(topic(name), id), topic(name)
    local at_pending = pending_at(t, tonumber(number))
    -- Who has not heard of a pending start has found another one, by the policy of a later time.
    local missed = at_pending and t.pending[at_pending + 1] ~= found_for
    if known and not part(pid) and not missed then
        if at_pending then
            table.remove(t.pending, at_pending)
            table.remove(t.pending, at_pending)
        end
        local p = {pid = pid, topic = name, number = number, cursor = start, high = max(high, start), low = start,
            start = log_start, generation = nonce, epoch = epoch, in_flight = 0, parked = 0, paused = 0, weight = 0, served = 0,
            listed = -1, ring = false, moved = true, probe_at = 0, probes = 1, queued = false, unchecked = 0}
        parts[pid] = p
        local t = topic(name)
        t.count = t.count + 1
        changed(t)
        -- What is not done before the last that is done is a unit for each gap.
        for _ = 1, done do
            local from, to, cursor = arg(), arg(), p.cursor
            if to > cursor then
                p.cursor, p.high = to, max(p.high, to)
                if cursor < from then
                    p.in_flight = p.in_flight + 1
                    new_unit(p, cursor, from, 0, '', 0, WAITS, 0)
                end
            end
        end
        settle(p)
        started = started + 1
    else
        at = at + 2 * done
    end
end
flush()
wake()
return {'OK', started}

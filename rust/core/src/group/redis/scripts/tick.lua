-- Once a second, by anybody, with all topics: mends times that a clock which was set back left too far in the future, takes back
-- leases, tries parked units again, forgets dead members and topics that nobody reads.  Reply: OK

local PROBED_AT_ONCE = 16
local TOPIC_KEPT = 7 * 24 * 3600000     -- as long as brokers keep offsets

local function mend(list, latest, below)
    for i = 1, #names do
        local ids = call('ZRANGEBYSCORE', keys[names[i]][list], '(' .. int(latest), below)
        fetch(ids)
        for _, id in ipairs(ids) do
            local u = unit(id)
            u.time = latest
            touch(u)
        end
    end
end

local latest = now + lease
local grace = min(tonumber(m[6]), latest)
mend('leased', latest, '+inf')
mend('waiting', now + LONGEST_DELAY, '(' .. int(HELD))
local organised = m[8] == '' and m[9] or int(min(tonumber(m[9]), latest))
call('HSET', META, 'last', int(min(tonumber(m[5]), now)), 'grace', int(grace), 'organised', organised)
for _, pid in ipairs(call('ZRANGEBYSCORE', PROBES, '(' .. int(now + PROBE_EVERY), '+inf')) do
    local p = keys[string.match(pid, '^(.*)/%d+$')] and part(pid)
    if p then
        p.probe_at = now + PROBE_EVERY
        write(p)
    end
end
reap(names, grace)

-- Gives out parked units of the partitions whose time has come, the longest parked first. Not while earlier ones are not over, or in
-- an outage there would be one more every minute; nor of a paused partition.
local function probe(p)
    p.probe_at = now + PROBE_EVERY
    write(p)
    if p.paused == 1 then return end
    local parked = {}
    for _, u in ipairs(units_of(p)) do
        if u.probe == 1 then return end
        if u.phase == PARKED then parked[#parked + 1] = u end
    end
    table.sort(parked, function(a, b)
        if a.time ~= b.time then return a.time < b.time end
        return a.id < b.id
    end)
    for i = 1, min(p.probes, #parked) do
        local u = parked[i]
        u.probe = 1
        unparked(u, max_attempts - 1)
    end
    settle(p)
end
for _, pid in ipairs(call('ZRANGEBYSCORE', PROBES, '-inf', now, 'LIMIT', 0, PROBED_AT_ONCE)) do
    local p = keys[string.match(pid, '^(.*)/%d+$')] and part(pid)
    if p then probe(p) end
end

local ids = call('HKEYS', CONSUMERS)
for _, id in ipairs(ids) do
    local c = member(id)
    if c.seen > now then
        c.seen = now
        write_member(c)
    elseif c.seen + 2 * lease <= now then
        uncount(c)
        call('HDEL', CONSUMERS, id)
        for i = 1, #names do call('ZREM', keys[names[i]].idle, id) end
    end
end

for _, name in ipairs(names) do
    local t = known_topic(name)
    if t and t.readers == 0 then
        if t.unused < 0 then
            t.unused = now
            changed(t)
        end
        if t.unused + TOPIC_KEPT <= now then
            for _, number in ipairs(numbers_of(name)) do remove_part(part(name .. '/' .. number)) end
            t.removed = true
            call('HDEL', TOPICS, name)
        end
    end
end
flush()
wake()
return {'OK'}

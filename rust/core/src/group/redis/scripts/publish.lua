-- What is known of partitions' logs: raises high watermarks, finds truncation and retention.
-- ARGV: nonce, n, then topic, partition, topic id, leader epoch, high watermark, log start, epoch that was asked for (-1: none), its end
-- Reply: OK, {code, a, b} for each: 0 done, 1 unknown, 2 wrong topic, 3 stale, 4 ask for epoch a, 5 truncated at a, 6 lost [a, b)

-- The log was cut, below the cursor: what stood above it is another log now.
local function truncate(p, stop, nonce)
    drop_units_from(p, stop)
    event('e', 'truncated', 'p', p.pid, 'from', int(p.cursor), 'to', int(stop))
    p.cursor, p.generation, p.moved = stop, nonce, true
end

local function lose(p, from, to)
    call('HINCRBY', META, 'lost', int(to - from))
    event('e', 'lost', 'p', p.pid, 'from', int(from), 'to', int(to))
end

-- What nobody had claimed below the log's start is lost, and reported; what somebody holds or will be given is for the holder to
-- report. A parked unit has no holder and never will.
local function retained(p, start)
    if start <= p.start then start = p.start
    else
        p.start = start
        if p.parked > 0 then
            for _, u in ipairs(units_of(p)) do
                if u.phase == PARKED and u.stop <= start then
                    forget(u)
                    lose(p, u.progress, u.stop)
                end
            end
        end
    end
    local from = p.cursor
    if start <= from then return nil end
    p.cursor, p.high, p.moved = start, max(p.high, start), true
    lose(p, from, start)
    return from
end

local function publish(p, id, epoch, high, start, asked, ends, nonce)
    if not p then return 1, 0, 0 end
    local known = topic(p.topic).id
    if known ~= id and known ~= NO_ID and id ~= NO_ID then return 2, 0, 0 end
    if epoch < p.epoch then return 3, 0, 0 end
    local code, a, b = 0, 0, 0
    if epoch > p.epoch and p.epoch >= 0 then
        -- The answer may be late, and the stored epoch another one by now: it may end further down.
        if asked ~= p.epoch then return 4, p.epoch, 0 end
        p.epoch = epoch
        if ends < p.cursor then
            code, a = 5, ends
            truncate(p, ends, nonce)
        end
        -- The new leader's high watermark may lag behind what was seen and even claimed before.
        p.high = max(high, p.cursor)
    elseif epoch == p.epoch and high <= p.high and start <= p.start and p.start <= p.cursor then
        return 0, 0, 0
    else
        p.epoch, p.high = epoch, max(p.high, high)
    end
    local from = retained(p, start)
    if from then code, a, b = 6, from, p.cursor end
    settle(p)
    return code, a, b
end

local nonce, n = arg(), arg()
local first = at
for k = 1, n, 1000 do
    -- All rows of a topic in one go.
    local wanted = {}
    for j = k, min(k + 999, n) do
        local name, number = A[first + 8 * j - 7], A[first + 8 * j - 6]
        if parts[name .. '/' .. number] == nil then put(wanted, name, number) end
    end
    for name, numbers in pairs(wanted) do
        local rows = call('HMGET', keys[name].parts, unpack(numbers))
        for j = 1, #numbers do read_part(name .. '/' .. numbers[j], name, numbers[j], rows[j]) end
    end
end
local out = {}
for k = first + 1, first + 8 * n, 8 do
    local name, number, id, epoch, high, start, asked, ends = unpack(A, k, k + 7)
    local o = #out
    out[o + 1], out[o + 2], out[o + 3] = publish(part(name .. '/' .. number), id, epoch, high, start, asked, ends, nonce)
end
flush()
wake()
return {'OK', out}

-- A member goes: what it holds is free at once, from where it was last reported, and that was no attempt.
-- ARGV: consumer.  The topics are those it may hold units of.  Reply: OK

local consumer = arg()
local held = {}
for i = 1, #names do
    local ids = call('ZRANGE', keys[names[i]].leased, 0, -1)
    fetch(ids)
    for _, id in ipairs(ids) do
        local u = unit(id)
        if u.holder == consumer then held[#held + 1] = u end
    end
    call('ZREM', keys[names[i]].idle, consumer)
end
-- The last first, so that a tail of several units goes back to the cursor.
table.sort(held, function(a, b) return a.id > b.id end)
for _, u in ipairs(held) do
    release(u)
    settle(part(u.pid))
end
local c = member(consumer)
if c then
    uncount(c)
    call('HDEL', CONSUMERS, consumer)
end
if m[8] == consumer then call('HSET', META, 'organiser', '') end
flush()
wake()
return {'OK'}

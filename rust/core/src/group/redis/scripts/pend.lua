-- Records partitions that cannot be started now, and where they are to start; the first writer wins.
-- ARGV: n, then topic, partition, topic id, start (-1: the first record, else a time).
-- Reply: OK, {for each the start that is recorded, -2 when the partition is read, -3 when the topic is another one}

local out = {}
for i = 1, arg() do
    local name, number, id, start = arg(), arg(), arg(), arg()
    local t, retired = topic(name), false
    for _, old in ipairs(t.retired) do retired = retired or old == id end
    local at_pending = pending_at(t, tonumber(number))
    -- Metadata alone may be behind: that the topic was created again only a leader says.
    if retired or (t.id ~= id and t.id ~= NO_ID and id ~= NO_ID) then
        out[i] = -3
    elseif part(name .. '/' .. number) then
        out[i] = -2
    elseif at_pending then
        out[i] = t.pending[at_pending + 1]
    else
        local place = 1
        while t.pending[place] and t.pending[place] < tonumber(number) do place = place + 2 end
        table.insert(t.pending, place, tonumber(number))
        table.insert(t.pending, place + 1, start)
        changed(t)
        out[i] = start
    end
end
flush()
return {'OK', out}

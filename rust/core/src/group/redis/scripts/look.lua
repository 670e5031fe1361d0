-- What is known of all partitions of topics, and for one partition its open units.
-- ARGV: partition or nothing.  Reply: OK, now, {topic id, {number, row, ...}} for each topic; or OK, {from, to, ...}

local only = arg()
if only ~= '' then
    local out = {}
    local p = part(names[1] .. '/' .. only)
    if p then
        for _, u in ipairs(units_of(p)) do
            out[#out + 1] = u.progress
            out[#out + 1] = u.stop
        end
    end
    return {'OK', out}
end
local out = {'OK', now}
for i = 1, #names do
    local t = known_topic(names[i])
    out[2 + i] = {t and t.id or NO_ID, call('HGETALL', keys[names[i]].parts)}
end
return out

-- What is known of all partitions of topics; or of some, with their open units, at one moment.
-- ARGV: run id of the server that the caller speaks with, if what it holds must have been compared with the commits in Kafka, else
-- nothing; 0; or how many partitions of the one topic, and their numbers.
-- Reply: DAMAGED where the open units are not all there: what is missing would count as handled; or OK, {topic id, {number, row, ...},
--   {number, pending start, ...}} for each topic; with open units: OK, topic id, {number, row, {from, to, ...}} for each

local run, count = arg(), arg()
if run ~= '' and run ~= m[10] then return {'RECONCILE', m[10]} end
local out = {'OK'}
if count > 0 then
    local t = known_topic(names[1])
    out[2] = t and t.id or NO_ID
    for _ = 1, count do
        local number = arg()
        local p = part(names[1] .. '/' .. number)
        if p then
            local open = {}
            for _, u in ipairs(units_of(p)) do
                open[#open + 1] = u.progress
                open[#open + 1] = u.stop
            end
            if #open ~= 2 * (p.in_flight + p.parked) then return {'DAMAGED', p.pid} end
            out[#out + 1] = {number, call('HGET', keys[names[1]].parts, number), open}
        end
    end
    return out
end
for i = 1, #names do
    local t = known_topic(names[i])
    out[1 + i] = {t and t.id or NO_ID, call('HGETALL', keys[names[i]].parts), t and t.pending or {}}
end
return out

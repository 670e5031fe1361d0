-- Facts from the commits in Kafka: everything below the offset was handled, in this generation; a suspended partition goes on, also when
-- the commit is not ahead. With a run id, the last call of a
-- reconciliation: what this server holds was compared with the commits.
-- ARGV: run id or nothing, n, then topic, partition, generation, offset.  Reply: OK

local run = arg()
for _ = 1, arg() do
    local name, number, generation, offset = arg(), arg(), arg(), arg()
    local p = part(name .. '/' .. number)
    -- Facts of another generation are about other records: after a seek back they would skip what is to be repeated.
    if p and p.generation == generation then
        if offset > p.low then
            p.cursor, p.high, p.moved = max(p.cursor, offset), max(p.high, offset), true
            for _, u in ipairs(units_of(p)) do
                if u.stop <= offset then forget(u) else advance_unit(u, offset) end
            end
        end
        resume(p)
        settle(p)
    end
end
flush()
if run ~= '' then call('HSET', META, 'run', run) end
wake()
return {'OK'}

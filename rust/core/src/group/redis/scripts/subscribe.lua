-- Says that somebody subscribes to topics that exist or not, and where their unknown partitions start.
-- ARGV: for each topic 1 or 0, whether it exists.  Reply: OK, {1: at the earliest record, 0: by the policy}

local out = {}
for i = 1, #names do
    local t = topic(names[i])
    -- What does not exist now appears after the subscription: it is read from its first record (KIP-842).
    if arg() == 0 and t.settled == 0 then
        t.settled = 1
        changed(t)
    end
    out[i] = t.settled
end
flush()
return {'OK', out}

-- Who is in the group, and what they read.
-- Reply: OK, {id, when it was heard of last, for how long not, {topics}} for each member, in no order

local out, rows = {'OK'}, call('HGETALL', CONSUMERS)
for i = 1, #rows, 2 do
    local _, _, seen, _, reads = unp(rows[i + 1])
    out[#out + 1] = {rows[i], seen, max(now - seen, 0), reads}
end
return out

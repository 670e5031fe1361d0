-- Parked units of topics, the longest parked first. ARGV: how many are passed over, how many are looked at.
-- Reply: OK, now, how many were looked at, {id, from, to, since}

local first, most = arg(), arg()
local ids, mine, out = call('ZRANGE', PARKED_UNITS, first, first + most - 1), {}, {}
for i = 1, #ids do
    if keys[string.match(ids[i], '^(.*)/%d+@')] then mine[#mine + 1] = ids[i] end
end
fetch(mine)
for i = 1, #mine do
    local u = unit(mine[i])
    if u then
        local o = #out
        out[o + 1], out[o + 2], out[o + 3], out[o + 4] = u.id, u.progress, u.stop, u.time
    end
end
return {'OK', now, #ids, out}

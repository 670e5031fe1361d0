-- Delivers the parked units of a partition again, with all attempts, or gives them up: all, or the one that holds an offset.
-- ARGV: partition, 1 to deliver or 0, offset (-1: all).  Reply: OK, how many

local p, again, offset, count = part(names[1] .. '/' .. arg()), arg() == 1, arg(), 0
if p then
    for _, u in ipairs(units_of(p)) do
        if u.phase == PARKED and (offset < 0 or (u.progress <= offset and offset < u.stop)) then
            count = count + 1
            if again then
                unparked(u, 0)
            else
                forget(u)
            end
        end
    end
    settle(p)
    flush()
    wake()
end
return {'OK', count}

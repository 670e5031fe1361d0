-- Moves a partition by force if its generation is still the one named. ARGV: partition, generation, offset, nonce. Reply: OK, 1 or 0

local p, generation, offset, nonce = part(names[1] .. '/' .. arg()), arg(), arg(), arg()
if not p or p.generation ~= generation then return {'OK', 0} end
local from = p.low
drop_units_from(p, -1)
p.cursor, p.high, p.generation, p.moved = offset, max(p.high, offset), nonce, true
-- Whatever the commits say, they are about another generation.
resume(p)
event('e', 'sought', 'p', p.pid, 'from', int(from), 'to', int(offset))
settle(p)
flush()
wake()
return {'OK', 1}

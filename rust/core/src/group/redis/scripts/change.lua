-- Other settings, when nobody is left who relies on the old ones. The topics are all there are.
-- ARGV: settings.  Reply: OK, 1 or 0

for _, id in ipairs(call('HKEYS', CONSUMERS)) do
    local c = member(id)
    if c.seen + 2 * lease > now then return {'OK', 0} end
    uncount(c)
    call('HDEL', CONSUMERS, id)
end
for i = 1, #names do
    -- A dead member's lease that is over binds nobody.
    if call('ZCOUNT', keys[names[i]].leased, '(' .. int(now), '+inf') > 0 then return {'OK', 0} end
end
local settings = {}
for i = 1, 5 do settings[i] = arg() end
call('HSET', META, 'settings', pack(settings))
units_per_partition = settings[4]
ordered = units_per_partition == 1
for i = 1, #names do
    for _, number in ipairs(numbers_of(names[i])) do
        local p = part(names[i] .. '/' .. number)
        release_held(p)
        settle(p)
    end
end
flush()
return {'OK', 1}

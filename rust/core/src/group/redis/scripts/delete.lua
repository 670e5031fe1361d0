-- Forgets the group. What stays for an hour is that it was deleted, for members who come late.  The topics are all there are.

for i = 1, #names do
    local k = keys[names[i]]
    call('UNLINK', k.parts, k.ring, k.leased, k.waiting, k.idle)
end
call('UNLINK', META, UNITS, OPEN, CONSUMERS, TOPICS, EVENTS, PARKED_UNITS)
call('HSET', META, 'deleted', 1)
call('EXPIRE', META, 3600)
return {'OK'}

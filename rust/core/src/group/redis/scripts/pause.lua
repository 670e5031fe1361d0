-- Stops or resumes the delivery of a partition, or of all of a topic. ARGV: partition or nothing, 1 or 0. Reply: OK, how many changed

local only, paused, count = arg(), arg(), 0
for _, number in ipairs(numbers_of(names[1])) do
    local p = part(names[1] .. '/' .. number)
    if p and (only == '' or only == number) and p.paused ~= paused then
        p.paused = paused
        if paused == 0 then release_held(p) end
        settle(p)
        count = count + 1
    end
end
flush()
wake()
return {'OK', count}

-- The topics that keys of a group name, whatever has become of those keys: so that all of it is dropped, and nothing else.
local function topics_named(topics, units, open, consumers)
    local found, seen = {}, {}
    local function add(name)
        if name and not seen[name] then
            seen[name] = true
            found[#found + 1] = name
        end
    end
    local function all(...)
        local values = redis.pcall(...)
        return (type(values) == 'table' and not values.err) and values or {}
    end
    for _, name in ipairs(all('HKEYS', topics)) do add(name) end
    for _, id in ipairs(all('HKEYS', units)) do add(string.match(id, '^(.*)/%d+@%d+$')) end
    for _, id in ipairs(all('ZRANGE', open, 0, -1)) do add(string.match(id, '^(.*)/%d+@%d+$')) end
    for _, row in ipairs(all('HVALS', consumers)) do
        local readable, _, _, _, _, reads = pcall(cmsgpack.unpack, row)
        if readable and type(reads) == 'table' then
            for _, name in ipairs(reads) do
                if type(name) == 'string' then add(name) end
            end
        end
    end
    return found
end

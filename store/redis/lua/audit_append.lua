-- Append: ARGV is nonce, id, repository, entry. Doing it twice is as good as
-- once.
append(unpack(ARGV, 2))
return true

-- Delete: ARGV is nonce and ids. Doing it twice is as good as once.
for i = 2, #ARGV do
  deleteRun(ARGV[i])
end
return true

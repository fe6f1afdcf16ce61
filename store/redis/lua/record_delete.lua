-- Delete: ARGV is nonce, key. Doing it twice is as good as once.
call('HDEL', key('record'), ARGV[2])
call('ZREM', key('records'), ARGV[2])
return true

-- ARGV: as `create` takes them.
return create(1)

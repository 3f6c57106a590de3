  ;; Answers with a thousand outputs, whose headers are all the same million of empty ones.
  (func $describe (result i32) (call $described))
  (func $process (result i32)
    (local $output i32) (local $left i32)
    (drop (memory.grow (i32.const 320)))
    (local.set $output (i32.const 0x80000))
    (local.set $left (i32.const 1000))
    (loop $next
      (i32.store offset=12 (local.get $output) (i32.const 0x200000))
      (i32.store offset=16 (local.get $output) (i32.const 1000000))
      (local.set $output (i32.add (local.get $output) (i32.const 36)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    (call $outputs (i32.const 0x80000) (i32.const 1000)))

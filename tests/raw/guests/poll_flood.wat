  ;; Waits for one timer a million times at once, again and again.
  (func $describe (result i32) (call $described))
  (func $process (result i32)
    (local $timer i32) (local $at i32)
    (drop (memory.grow (i32.const 100)))
    (local.set $timer (call $subscribe (i64.const 0)))
    (local.set $at (i32.const 0x100000))
    (loop $next
      (i32.store (local.get $at) (local.get $timer))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 0x500000))))
    (loop $again
      (global.set $top (i32.const 0x500000))
      (call $poll (i32.const 0x100000) (i32.const 1000000) (i32.const 128))
      (br $again))
    unreachable)

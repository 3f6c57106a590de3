  ;; Grows a table until it is refused, then traps.
  (table $elements 1 funcref)
  (func $describe (result i32) (call $described))
  (func $process (result i32)
    (loop $again
      (br_if $again (i32.ne (i32.const -1) (table.grow $elements (ref.null func) (i32.const 10000)))))
    unreachable)

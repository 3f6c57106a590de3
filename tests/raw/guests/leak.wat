  ;; Asks for one timer after the other and gives none back.
  (func $describe (result i32) (call $described))
  (func $process (result i32)
    (loop $again
      (drop (call $subscribe (i64.const 3600000000000)))
      (br $again))
    unreachable)

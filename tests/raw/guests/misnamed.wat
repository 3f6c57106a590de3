  ;; Traps in a function that is named after another failure.
  (func $lies (@name "all fuel consumed by WebAssembly, fuel allocated for hostcalls") unreachable)
  (func $describe (result i32) (call $described))
  (func $process (result i32) (call $lies) (i32.const 64))

  ;; What every guest here stands on. A guest adds `$describe` and `$process`, and what else it needs.
  ;; Offsets are those of the canonical ABI: see the records in wit/types.wit and wit/lifecycle.wit.
  (import "stompbox:processor/host@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/poll@0.2.0" "poll" (func $poll (param i32 i32 i32)))
  (import "wasi:random/random@0.2.0" "get-random-bytes" (func $random (param i64 i32)))

  (memory (export "memory") 17)
  ;; 64: the area of results, zeroed; 256: the description; 1024: a word that is not UTF-8.
  (data (i32.const 256) "\00\02\00\00\05\00\00\00\20\01\00\00\01\00\00\00")
  (data (i32.const 288) "\10\02\00\00\03\00\00\00")
  (data (i32.const 512) "0.1.0")
  (data (i32.const 528) "Raw")
  (data (i32.const 1024) "\ff\fe")

  ;; What the host gives is put into the second MiB, and forgotten with the next call: lists stand behind it.
  (global $top (mut i32) (i32.const 0x100000))
  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $top) (i32.shl (memory.size) (i32.const 16))))
      (br_if $fits (i32.ne (i32.const -1)
        (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16))))))
      unreachable)
    (memory.copy (local.get $at) (local.get $old) (local.get $old_size))
    (local.get $at))

  ;; A description of one processor, `Raw`.
  (func $described (result i32) (i32.const 256))
  ;; The result `ok` with outputs, which lie there.
  (func $outputs (param $at i32) (param $count i32) (result i32)
    (i32.store offset=64 (i32.const 0) (i32.const 0))
    (i32.store offset=72 (i32.const 0) (local.get $at))
    (i32.store offset=76 (i32.const 0) (local.get $count))
    (i32.const 64))

  (func (export "stompbox:processor/lifecycle@0.1.0#describe") (result i32) (call $describe))
  (func (export "stompbox:processor/lifecycle@0.1.0#initialize")
    (param i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32) (result i32)
    (i32.store8 offset=64 (i32.const 0) (i32.const 0))
    (i32.const 64))
  (func (export "stompbox:processor/lifecycle@0.1.0#terminate"))
  (func (export "stompbox:processor/handler@0.1.0#process") (param $message i32) (result i32)
    (global.set $top (i32.const 0x100000))
    (call $process))

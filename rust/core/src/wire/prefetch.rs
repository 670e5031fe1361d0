//! Hints to the processor: memory that is about to be used.
//!
//! The buffers of batches go round between two cores, the one that appends and the one that sends, and at full speed through
//! more memory than a cache holds. Left alone, the appending core waits for each cache line it writes: the partition's lock,
//! given back after each record, is an atomic instruction, and lets none of the record's stores be late.
//!
//! The only `unsafe` of the protocol: no safe function gives such a hint. Measured in docs/DESIGN.md, "What the hot paths cost".

/// Says that memory will be written soon: asks for its lines, to be owned by this core. Does nothing on other processors.
#[inline(always)]
pub(super) fn to_write(memory: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    each_line(memory, bytes, |line| {
        // SAFETY: a hint reads and writes nothing, and has no effect on addresses that are not there. All processors of 64
        // bits take it, old ones as an instruction that does nothing.
        #[allow(unsafe_code)]
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
    });
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (memory, bytes);
}

/// Says that `memory` will be read soon.
#[inline(always)]
pub(super) fn to_read(memory: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    each_line(memory.as_ptr(), memory.len(), |line| {
        // SAFETY: as above.
        #[allow(unsafe_code)]
        unsafe {
            std::arch::asm!("prefetcht1 [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
    });
    #[cfg(not(target_arch = "x86_64"))]
    let _ = memory;
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn each_line(memory: *const u8, bytes: usize, hint: impl Fn(*const u8)) {
    /// Bytes of a cache line.
    const LINE: usize = 64;
    let mut at = 0;
    while at < bytes {
        hint(memory.wrapping_add(at));
        at += LINE;
    }
}

//! How much of the kernel's stack the module needs, told from its machine code.
//!
//! A stack of the kernel has 16 KiB, for all: the system call or the file system that came first, the module,
//! the devices below it, and interrupts. A call chain that goes beyond that overwrites
//! whatever lies there, or stops the machine. The compiler warns of it in C (`CONFIG_FRAME_WARN`), but not in
//! Rust.

use std::collections::{BTreeMap, BTreeSet};

/// What one function may take: the default of `CONFIG_FRAME_WARN`.
const MOST_OF_ONE: u32 = 2048;
/// What functions may take together that call one another.
const MOST_OF_ALL: u32 = 6144;

/// The disassembly of a file, with demangled names and relocations, as [`check`] wants it.
pub fn disassemble(file: &str) -> String {
    format!("objdump -drC --no-show-raw-insn {file}")
}

/// A function.
#[derive(Debug, Default)]
struct Function {
    /// Bytes of stack, but for what it pushes.
    frame: u32,
    /// What it calls, or refers to.
    calls: BTreeSet<String>,
}

/// What needs too much of the stack, a line for each; nothing if all is well.
///
/// Calls through pointers that are not in the code itself cannot be followed.
pub fn check(disassembly: &str) -> Vec<String> {
    let functions = parse(disassembly);
    let mut lines: Vec<String> = functions
        .iter()
        .filter(|(_, function)| function.frame > MOST_OF_ONE)
        .map(|(name, function)| {
            format!("{name} takes {} bytes of the stack, {MOST_OF_ONE} at most may be", function.frame)
        })
        .collect();
    let mut known = BTreeMap::new();
    let deepest = functions.keys().map(|name| deepest(name, &functions, &mut Vec::new(), &mut known));
    if let Some((bytes, chain)) = deepest.max() {
        if bytes > MOST_OF_ALL {
            let chain: Vec<String> =
                chain.iter().map(|name| format!("{name} ({})", functions[name].frame)).collect();
            lines.push(format!(
                "together, these take {bytes} bytes of the stack, {MOST_OF_ALL} at most may be: {}",
                chain.join(", ")
            ));
        }
    }
    lines
}

fn parse(disassembly: &str) -> BTreeMap<String, Function> {
    let mut functions: BTreeMap<String, Function> = BTreeMap::new();
    let mut name = String::new();
    let mut section = "";
    // By section and offset, as relocations call those that have no name outside.
    let mut places = BTreeMap::new();
    for line in disassembly.lines() {
        if let Some(begun) = line.strip_prefix("Disassembly of section ") {
            section = begun.trim_end_matches(':');
            continue;
        }
        if let Some((at, begun)) = line.strip_suffix(">:").and_then(|line| line.split_once(" <")) {
            name = begun.to_owned();
            // Several may have the same demangled name.
            functions.entry(name.clone()).or_default();
            if let Ok(at) = u64::from_str_radix(at, 16) {
                places.insert((section.to_owned(), at), name.clone());
            }
            continue;
        }
        let Some(function) = functions.get_mut(&name) else { continue };
        let code = line.rsplit('\t').next().unwrap_or_default().trim();
        if let Some((_, target)) = line.split_once("R_X86_64_") {
            function.calls.insert(target.split_once('\t').map_or(target, |(_, target)| target).to_owned());
        } else if let Some(bytes) = code.strip_prefix("sub ").map(str::trim).and_then(frame) {
            function.frame = function.frame.max(bytes);
        } else if let Some((_, target)) =
            code.split_once(" <").filter(|_| code.starts_with("call") || code.starts_with("jmp"))
        {
            function.calls.insert(target.strip_suffix('>').unwrap_or(target).to_owned());
        }
    }
    for function in functions.values_mut() {
        function.calls = function.calls.iter().map(|target| resolve(target, &places)).collect();
    }
    functions
}

/// The function that is meant by `name-0x4`, `name+0x12` or `.section+0x1230`.
fn resolve(target: &str, places: &BTreeMap<(String, u64), String>) -> String {
    let Some(at) = ["-0x", "+0x"].iter().filter_map(|sign| target.rfind(sign)).max() else {
        return target.to_owned();
    };
    let (name, offset) = (&target[..at], u64::from_str_radix(&target[at + 3..], 16).unwrap_or(0));
    // From the end of an instruction it is four bytes further than from its operand.
    let place = |offset| places.get(&(name.to_owned(), offset)).cloned();
    place(offset).or_else(|| place(offset + 4)).unwrap_or_else(|| name.to_owned())
}

/// `$0x123,%rsp`
fn frame(operands: &str) -> Option<u32> {
    u32::from_str_radix(operands.strip_prefix("$0x")?.strip_suffix(",%rsp")?, 16).ok()
}

/// The chain of calls from a function on that takes most of the stack, and how much that is.
fn deepest(
    name: &str,
    functions: &BTreeMap<String, Function>,
    path: &mut Vec<String>,
    known: &mut BTreeMap<String, (u32, Vec<String>)>,
) -> (u32, Vec<String>) {
    if let Some(known) = known.get(name) {
        return known.clone();
    }
    let Some(function) = functions.get(name).filter(|_| !path.iter().any(|on| on == name)) else {
        return (0, Vec::new());
    };
    path.push(name.to_owned());
    let below = function.calls.iter().map(|call| deepest(call, functions, path, known)).max();
    path.pop();
    let (bytes, mut chain) = below.unwrap_or_default();
    chain.insert(0, name.to_owned());
    let result = (bytes + function.frame, chain);
    known.insert(name.to_owned(), result.clone());
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What objdump says of functions with these frames, each of which calls the next one: by a name, a
    /// relocation or a pointer.
    fn code(frames: &[u32]) -> String {
        let mut text =
            String::from("\nx.ko:     file format elf64-x86-64\n\nDisassembly of section .text:\n");
        for (i, frame) in frames.iter().enumerate() {
            let next = format!("<m::S as m::T>::f{}", i + 1);
            text += &format!("\n{:016x} <<m::S as m::T>::f{i}>:\n", i * 16);
            text += &format!("   1:\tsub    ${frame:#x},%rsp\n   2:\tsub    $0x7fff,%rdi\n");
            text += &match i % 4 {
                0 => format!("   3:\tcall   9 <{next}>\n"),
                1 => format!("   3:\tcall   8 <f+0x4>\n\t\t\t4: R_X86_64_PLT32\t{next}-0x4\n"),
                2 => format!("   3:\tmovabs $0x0,%rax\n\t\t\t5: R_X86_64_64\t{next}\n   d:\tcall   *%rax\n"),
                _ => format!("   3:\tmovabs $0x0,%rax\n\t\t\t5: R_X86_64_64\t.text+{:#x}\n", (i + 1) * 16),
            };
        }
        text
    }

    #[test]
    fn what_is_small_is_well() {
        assert!(check("").is_empty());
        assert!(check(&code(&[MOST_OF_ONE, 1000, 1000, 2000])).is_empty());
    }

    #[test]
    fn a_large_frame_is_found() {
        let lines = check(&code(&[100, MOST_OF_ONE + 8, 100]));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("<m::S as m::T>::f1 takes 2056 bytes"), "{lines:?}");
    }

    #[test]
    fn what_is_too_much_together_is_found() {
        let lines = check(&code(&[2000, 40, 2000, 1000, 1500]));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("6540 bytes"), "{lines:?}");
        assert!(lines[0].ends_with("f3 (1000), <m::S as m::T>::f4 (1500)"), "{lines:?}");
        // A function that calls itself has no deepest call.
        let own = "0 <f>:\n 1:\tsub $0x10,%rsp\n 2:\tcall 0 <f>\n 3:\tjmp 8 <f+0x8>\n";
        assert!(check(own).is_empty());
    }
}

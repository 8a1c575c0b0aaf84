fn main() {
    let a: Vec<String> = std::env::args().collect();
    let p = a[1].parse().unwrap();
    let t = a[2].parse().unwrap();
    let art = kiln_compiler::compile(&p, &t, &Default::default()).unwrap();
    for s in &a[3..] { println!("{}", art.dump(s.parse().unwrap())); }
}

module billbus/benchmarks/partner

go 1.22

"""`explain`: what a function or a step was compiled to, why, and what it costs."""

from numtape.explaining.cost import KernelCost
from numtape.explaining.explain import explain
from numtape.explaining.places import Place
from numtape.explaining.report import CompiledKernel, ProgramReport, Report, SignatureReport

__all__ = ["CompiledKernel", "KernelCost", "Place", "ProgramReport", "Report", "SignatureReport", "explain"]

/**
 * The program of a cell: a bundle of its own, started in a jail by the server (isolation/jailed-cell.ts).
 */
import { runCell } from "./cell.js";

runCell();

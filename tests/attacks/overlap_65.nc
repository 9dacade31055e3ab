‰NC1

#Eg‰«Íï<@A£êäYTILEabccý0